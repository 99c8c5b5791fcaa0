"""What the speakers of the embedded corpus say: GRID's grammar, and an open one of short everyday sentences.

Both are drawn without repeats, so that the sentences of a test set never occur in training. The open grammar keeps
some words (after the bar in each list of `FILLERS`) for the test set alone.
"""

import re
from collections.abc import Callable

import numpy as np

# Cooke et al. 2006, "An audio-visual corpus for speech perception and automatic speech recognition" (JASA 120)
GRID_SLOTS = tuple(
    tuple(words.split())
    for words in (
        "bin lay place set",
        "blue green red white",
        "at by in with",
        "a b c d e f g h i j k l m n o p q r s t u v x y z",  # no w: the one letter of several syllables
        "zero one two three four five six seven eight nine",
        "again now please soon",
    )
)
GRID_LETTER_SLOT = 3

FILLERS = {
    "name": (
        "anna, ben, charlie, david, emma, george, helen, jack, julia, kate, laura, leo, martha, michael, "
        "nora, oliver, peter, rachel, sam, sophie, thomas, vera, walter, yasmin, zoe | hugo, phoebe"
    ),
    "person": (
        "teacher, doctor, farmer, driver, baker, painter, nurse, judge, captain, singer, neighbor, student, "
        "boy, girl, woman, man, lawyer, waiter, cook, king, queen, thief, artist, stranger, uncle, father, "
        "mother, brother, sister, cousin, child, friend, guest, visitor, chief | juggler, goalkeeper"
    ),
    "animal": (
        "dog, cat, horse, cow, sheep, goat, mouse, fox, wolf, rabbit, bird, duck, owl, frog, bear, lion, "
        "monkey, pig, chicken, fish, snake, spider, tiger, donkey | beaver, penguin"
    ),
    "thing": (
        "book, chair, table, window, door, key, lamp, cup, bottle, knife, fork, spoon, bag, box, basket, hat, "
        "coat, shoe, shirt, glove, ring, watch, clock, phone, camera, picture, letter, map, wheel, rope, "
        "ladder, hammer, brush, pillow, blanket, mirror, candle, guitar, drum, ball, kite, toy, boat, "
        "bicycle, engine, treasure, television, vase, umbrella, towel, envelope, package | violin, kettle, "
        "thermometer, jigsaw"
    ),
    "things": (
        "apples, oranges, cherries, pears, eggs, flowers, leaves, stones, shells, coins, stamps, cards, "
        "buttons, pencils, papers, plates, glasses, boxes, toys, tickets, cookies, tomatoes, onions, "
        "feathers, branches | mushrooms, ribbons"
    ),
    "food": (
        "bread, butter, cheese, soup, rice, salad, cake, chocolate, honey, jam, milk, tea, coffee, juice, "
        "water, pasta, fish and chips, pie, yogurt, toast | porridge, lemonade"
    ),
    "place": (
        "garden, kitchen, bathroom, school, church, market, station, museum, library, hospital, office, "
        "village, forest, river, beach, bridge, castle, farm, harbor, park, theater, garage, hotel, tower, "
        "valley, road, house, basement, bus stop | lighthouse, bakery, playground"
    ),
    "adjective": (
        "old, young, tall, short, happy, sad, angry, quiet, loud, brave, clever, lazy, hungry, tired, polite, "
        "strange, famous, rich, poor, kind, careful, nervous, proud, thin | cheerful, grumpy"
    ),
    "quality": (
        "big, small, heavy, light, new, old, broken, clean, dirty, cheap, huge, round, square, thick, thin, "
        "smooth, rough, soft, wet, dry, sharp, shiny, beautiful, usual, wooden, golden, empty, full | "
        "fragile, enormous"
    ),
    "color": "red, green, blue, yellow, white, black, brown, gray, pink, purple, beige | turquoise, crimson",
    "moved": (
        "found, lost, bought, sold, broke, moved, washed, carried, dropped, painted, measured, wanted, took, "
        "brought, hid, fixed, borrowed, pushed, pulled, threw, caught, cleaned, touched, watched, saw, "
        "forgot, chose, showed, opened | polished, wrapped"
    ),
    "ate": "ate, cooked, made, tasted, shared, finished, served, ordered, enjoyed, mixed | swallowed, devoured",
    "went": "walked, ran, drove, hurried, moved, traveled, came back, went, rushed, returned | strolled, wandered",
    "acted": (
        "laughed, cried, slept, waited, sang, danced, smiled, shouted, coughed, prayed, jumped, sat down, "
        "listened, worked, stood up, whispered | sneezed, yawned, giggled"
    ),
    "manner": (
        "quickly, slowly, quietly, loudly, carefully, happily, again, alone, together, outside, softly, badly "
        "| cautiously, gracefully"
    ),
    "time": (
        "today, yesterday, this morning, last night, on monday, on tuesday, on wednesday, on thursday, on "
        "friday, on saturday, on sunday, last week, after lunch, before dinner, at noon, in june, in march, "
        "in january | at midnight, in october"
    ),
    "number": (
        "two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, twenty, thirty, fifty | fourteen, sixty"
    ),
    "owner": "my, your, his, her, our, their, the",
    "through": "in, near, behind, under, above, inside, beyond",
    "to": "to, through, toward, past, around",
    "weather": "rainy, sunny, cloudy, windy, cold, warm, hot, foggy, cool, pleasant | stormy, chilly",
    "feeling": "hope, think, know, believe, say, guess | suppose, imagine",
}
TEMPLATES = (
    "the {adjective} {person} {moved} the {thing}",
    "{name} {moved} {owner} {quality} {thing} {time}",
    "{owner} {person} {moved} {number} {things}",
    "{name} and {name} {moved} the {color} {thing}",
    "the {animal} {acted} {through} the {place}",
    "{owner} {adjective} {animal} {went} {to} the {place} {time}",
    "{name} {ate} some {food} {through} the {place}",
    "we {ate} {owner} {food} with {things} and {food}",
    "they {went} {to} the {quality} {place} {time}",
    "did {owner} {person} really {acted_base} {manner}",
    "please put the {color} {thing} {through} the {thing}",
    "there were {number} {quality} {things} {through} the {place}",
    "it was a {weather} day {time}",
    "it will be very {weather} {through} the {place}",
    "i {feeling} the {person} {moved} this {thing}",
    "you {feeling} that {name} {acted} {manner}",
    "she gave {number} {things} to the {adjective} {person}",
    "he never {moved} the {quality} {thing} again",
    "why is the {color} {thing} so {quality}",
    "where could {owner} {thing} be {time}",
    "{name} said the {food} should be good",
    "the {person} {acted} because the {animal} {moved} the {thing}",
    "the {person} and the {animal} {went} {to} the {place} together",
    "{time} the {adjective} {person} {acted} {manner}",
    "few would choose a {quality} {thing} with no {thing}",
    "both of the {things} are {color} or {color}",
    "who {moved} {owner} {thing} {through} the {place}",
    "the joyful noise of the {animal} made {name} happy",
)
ACTED_BASE = "laugh, cry, sleep, wait, sing, dance, smile, shout, cough, pray, jump, listen, work, whisper"
LONGEST, SHORTEST = 11, 4


def grid_sentence(rng: np.random.Generator) -> tuple[str, ...]:
    """Six words: command, color, preposition, letter, digit, adverb; 64,000 sentences in all."""
    return tuple(str(rng.choice(words)) for words in GRID_SLOTS)


def spoken_grid(words: tuple[str, ...]) -> str:
    """What a speech engine is told: the letter a is spelled as its sound, or it would be read as the article."""
    letter = words[GRID_LETTER_SLOT]
    told = "[['eI]]" if letter == "a" else letter
    return " ".join((*words[:GRID_LETTER_SLOT], told, *words[GRID_LETTER_SLOT + 1 :]))


def open_sentence(rng: np.random.Generator, held_out: bool = False) -> tuple[str, ...]:
    """A sentence of 4 to 11 words from `TEMPLATES`; with `held_out` it has at least one word kept for testing."""
    while True:
        template = str(rng.choice(TEMPLATES))
        slots = re.findall(r"{(\w+)}", template)
        testable = [i for i, slot in enumerate(slots) if _HELD_OUT.get(slot)]
        special = int(rng.choice(testable)) if held_out and testable else None
        chosen = [str(rng.choice((_HELD_OUT if i == special else _KNOWN)[slot])) for i, slot in enumerate(slots)]
        words = tuple(re.sub(r"{\w+}", "{}", template).format(*chosen).split())
        repeated = len(set(chosen)) < len(chosen)
        if not repeated and SHORTEST <= len(words) <= LONGEST and (special is not None or not held_out):
            return words


def distinct_sentences(
    draw: Callable[[int], tuple[str, ...]], n_sentences: int, taken: set[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Sentences draw(0), draw(1), ..., each drawn again while it is in `taken`; they are added to it."""
    found: list[tuple[str, ...]] = []
    while len(found) < n_sentences:
        words = draw(len(found))
        if words not in taken:
            taken.add(words)
            found.append(words)
    return found


def _fillers() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    known, held_out = {}, {}
    for slot, text in {**FILLERS, "acted_base": ACTED_BASE}.items():
        for table, part in zip((known, held_out), [*text.split("|"), ""][:2], strict=True):
            table[slot] = [filler.strip() for filler in part.split(",") if filler.strip()]
    return known, held_out


_KNOWN, _HELD_OUT = _fillers()


def open_vocabulary() -> tuple[set[str], set[str]]:
    """(words that training may use, words kept for the test set)."""
    known = {word for fillers in _KNOWN.values() for filler in fillers for word in filler.split()}
    known |= {word for template in TEMPLATES for word in re.sub(r"{\w+}", " ", template).split()}
    held_out = {word for fillers in _HELD_OUT.values() for filler in fillers for word in filler.split()}
    return known, held_out - known
