"""What a listener is given to read and to fill in: a page that works from a folder, without a server or a network."""

import csv
import io
from collections.abc import Sequence

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What do you hear?</title>
<style>
  body { font: 1.05rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  .clip { margin: 2.5rem 0 } video { width: 24rem; max-width: 100%; display: block; background: #808080 }
  input { font: inherit; width: 24rem; max-width: 100%; box-sizing: border-box; margin-top: .4rem; padding: .3rem }
  button { font: inherit; padding: .4rem 1rem }
</style>
<h1>What do you hear?</h1>
<p>You will hear COUNT short sentences in noise. Most come with a speaking face, some with a gray picture.</p>
<ol>
  <li>Use headphones in a quiet room. Set the volume with the first clip, then leave it.</li>
  <li>Go from top to bottom. Look at the face while you listen. Play each clip at most twice.</li>
  <li>Write the words that you understood, in their order. Guess where you are not sure; write numbers as words. Leave
      the line empty if you understood nothing.</li>
  <li>At the end press the button and send back the file answers.csv that it saves. (If it does not work, fill in the
      sheet answers.csv beside this page.)</li>
</ol>
CLIPS
<p><button id="save">Save answers.csv</button></p>
<script>
  document.getElementById("save").onclick = () => {
    const quoted = text => '"' + text.replaceAll('"', '""') + '"';
    const lines = [...document.querySelectorAll("input")].map(input => input.name + "," + quoted(input.value));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([["clip,heard", ...lines, ""].join("\\n")], { type: "text/csv" }));
    link.download = "answers.csv";
    link.click();
  };
</script>
</html>
"""
CLIP = """<div class="clip"><video controls preload="metadata" src="clips/{name}.mp4"></video>
<label>{number}. <input name="{name}" autocomplete="off" spellcheck="false" placeholder="what you heard"></label>
</div>"""


def instructions(names: Sequence[str]) -> str:
    """The page (HTML) for clips of these names, in their order."""
    clips = "\n".join(CLIP.format(name=name, number=number) for number, name in enumerate(names, start=1))
    return PAGE.replace("COUNT", str(len(names))).replace("CLIPS", clips)


def answer_sheet(names: Sequence[str]) -> str:
    """The sheet (CSV) to be filled in: clip, heard."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(("clip", "heard"))
    writer.writerows((name, "") for name in names)
    return sheet.getvalue()
