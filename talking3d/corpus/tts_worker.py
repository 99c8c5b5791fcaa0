"""The process that holds libespeak-ng, so that this kit's own process never loads it (it is GPL, and not thread-safe).

Run as a script, optionally with the path of a library; it imports nothing of the kit. Each line on stdin is a JSON
request, each answer a JSON line, followed for speech by `n_samples` little-endian int16 samples. espeak-ng carries
noise and flutter from one utterance to the next, so the library is initialised once and every utterance is spoken by
a fresh fork: the same request always gives the same bytes, and a crash of the engine costs one utterance.

API: https://github.com/espeak-ng/espeak-ng/blob/master/src/include/espeak-ng/speak_lib.h
"""

import ctypes
import difflib
import importlib.util
import json
import os
import sys
from pathlib import Path

SYNCHRONOUS = 2
PHONEME_EVENTS_AS_IPA = 1 | 2
DONT_EXIT = 0x8000
UTF8 = 1
PHONEMES_IN_BRACKETS = 0x100
RATE, PITCH, RANGE, WORD_GAP = 1, 3, 4, 7
EVENT_END_OF_LIST, EVENT_WORD, EVENT_PHONEME = 0, 1, 7
IPA_SPLIT_BY_UNDERSCORE = 0x02 | ord("_") << 8


class Event(ctypes.Structure):
    """espeak_EVENT. `id` is a union; as a phoneme's name it is 8 bytes of UTF-8 with no NUL when it is full."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_uint64),
    ]

    @property
    def phoneme(self) -> str:
        name = ctypes.string_at(ctypes.addressof(self) + Event.id.offset, 8)
        return name.split(b"\0", 1)[0].decode("utf-8", errors="ignore")


class Voice(ctypes.Structure):
    """espeak_VOICE."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("languages", ctypes.POINTER(ctypes.c_char)),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    ]


SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class BadRequest(Exception):
    """The request names something that the engine doesn't have."""


class Engine:
    """The library, initialised and silent."""

    def __init__(self, library: str, data: str | None):
        self.espeak = ctypes.CDLL(library)
        self.espeak.espeak_Info.restype = ctypes.c_char_p
        self.espeak.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.espeak.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(Voice))
        options = PHONEME_EVENTS_AS_IPA | DONT_EXIT
        self.sample_rate = self.espeak.espeak_Initialize(SYNCHRONOUS, 200, data.encode() if data else None, options)
        if self.sample_rate <= 0:
            raise OSError(f"does not start with the data in {data or 'its own folder'}")
        if hasattr(self.espeak, "espeak_ng_SetRandSeed"):  # since 1.52, which else seeds its breath noise by the clock
            self.espeak.espeak_ng_SetRandSeed(1)
        path = ctypes.c_char_p()
        self.version = self.espeak.espeak_Info(ctypes.byref(path)).decode()
        variants = Path(os.fsdecode(path.value)) / "voices" / "!v"
        self.variants = sorted(os.listdir(variants)) if variants.is_dir() else []
        self.languages = self._languages()

    def _languages(self) -> dict[str, str]:
        """Language code -> voice identifier; each voice lists (priority byte, code, NUL)... up to a zero priority."""
        found: dict[str, tuple[int, str]] = {}
        voices, i = self.espeak.espeak_ListVoices(None), 0
        while voices[i]:
            voice, at = voices[i].contents, 0
            while (priority := voice.languages[at][0]) != 0:
                code = ctypes.string_at(ctypes.addressof(voice.languages.contents) + at + 1)
                candidate = (priority, voice.identifier.decode())
                found[code.decode()] = min(found.get(code.decode(), candidate), candidate)
                at += len(code) + 2
            i += 1
        return {code: identifier for code, (_, identifier) in found.items()}

    def set_voice(self, language: str, variant: str | None) -> None:
        """espeak_SetVoiceByName keeps the old voice, or drops an unknown variant, without a word: check both first."""
        _check_known("language", language, self.languages)
        name = self.languages[language]
        if variant is not None:
            _check_known("voice variant", variant, self.variants)
            name = f"{name}+{variant}"
        if self.espeak.espeak_SetVoiceByName(name.encode()) != 0:
            raise BadRequest(f"espeak-ng {self.version} does not load the voice {name!r}")

    def speak(self, request: dict) -> tuple[dict, bytes]:
        """One utterance: {"phones": [[sample, name]], "words": [[sample, position, length]], ...} and its samples."""
        self.set_voice(request["language"], request["variant"])
        for parameter, key in ((RATE, "rate"), (PITCH, "pitch"), (RANGE, "pitch_range"), (WORD_GAP, "word_gap")):
            self.espeak.espeak_SetParameter(parameter, request[key], 0)
        pcm = bytearray()
        events: list[list] = []  # in the order of time: [sample, "word", position, length] or [sample, "phone", name]

        @SynthCallback
        def collect(samples, n_samples, event):
            if n_samples > 0:
                pcm.extend(ctypes.string_at(samples, 2 * n_samples))
            i = 0
            while event and event[i].type != EVENT_END_OF_LIST:
                if event[i].type == EVENT_WORD:
                    events.append([event[i].sample, "word", event[i].text_position - 1, event[i].length])
                elif event[i].type == EVENT_PHONEME:
                    events.append([event[i].sample, "phone", event[i].phoneme])
                i += 1
            return 0

        self.espeak.espeak_SetSynthCallback(collect)
        text = request["text"].encode()
        if self.espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8 | PHONEMES_IN_BRACKETS, None, None) != 0:
            raise BadRequest("espeak-ng refused to speak")
        answer = {"events": events, "citation": [self.citation(word) for word in request["text"].split()]}
        return {**answer, "sample_rate": self.sample_rate, "n_samples": len(pcm) // 2}, bytes(pcm)

    def citation(self, word: str) -> list[str]:
        """The phoneme names of a word spoken by itself."""
        text = ctypes.c_char_p(word.encode())
        name = self.espeak.espeak_TextToPhonemes(ctypes.byref(text), UTF8, IPA_SPLIT_BY_UNDERSCORE)
        return [phone for phone in (name or b"").decode(errors="ignore").strip().split("_") if phone]


def _check_known(kind: str, name: str, known) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)[:5]
        raise BadRequest(f"espeak-ng has no {kind} {name!r}; did you mean {', '.join(near)}?")


def _send(header: dict, pcm: bytes = b"") -> None:
    data = json.dumps(header).encode() + b"\n" + pcm
    while data:
        data = data[os.write(1, data) :]


def _answer(engine: Engine, request: dict) -> None:
    """Speak in a fork; the fork writes the whole answer itself, at once, after the engine has finished."""
    child = os.fork()
    if child == 0:
        try:
            _send(*engine.speak(request))
        except BadRequest as error:
            _send({"error": str(error)})
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        _send({"error": f"espeak-ng crashed (signal {os.WTERMSIG(status)})"})


def _libraries() -> list[tuple[str, str | None]]:
    """(library, its data folder or None for the built-in one) in the order of trial."""
    found: list[tuple[str, str | None]] = [("libespeak-ng.so.1", None)]
    if importlib.util.find_spec("espeakng_loader") is not None:
        import espeakng_loader

        found.insert(0, (espeakng_loader.get_library_path(), espeakng_loader.get_data_path()))
    return found


def _start(libraries: list[tuple[str, str | None]]) -> Engine | None:
    """The first engine that starts; else None, and the reasons are sent."""
    problems = []
    for library, data in libraries:
        try:
            return Engine(library, data)
        except OSError as error:
            problems.append(f"{library}: {error}")
    _send({"error": "; ".join(problems)})
    return None


def main(arguments: list[str]) -> None:
    """Answer requests until stdin closes."""
    engine = _start([(library, None) for library in arguments] or _libraries())
    if engine is None:
        return
    _send({"version": engine.version, "languages": sorted(engine.languages), "variants": engine.variants})
    for line in sys.stdin.buffer:
        _answer(engine, json.loads(line))


if __name__ == "__main__":
    main(sys.argv[1:])
