// The tools that point at the photo. Each sketches what it would do; `apply` makes a step of it.

import { type Length, type Place, type Prompt, type State, type Step, answer } from "./api.js";
import type { PhotoView, Pointing } from "./photo.js";
import { type Box, boxOf, scaled } from "./places.js";
import { spaced } from "./raster.js";

const SCRIBBLE_CLICKS = 5;

export const TOOLS = {
  select: { label: "Select", key: "V Escape", hint: "Click objects; with Shift, several." },
  click: { label: "Click", key: "C", hint: "Click what belongs to the object; with Alt or the right button, what does not." },
  box: { label: "Box", key: "X", hint: "Draw a box around the object." },
  scribble: { label: "Scribble", key: "Q", hint: "Scribble over what belongs to the object; with Alt or the right button, over what does not." },
  paint: { label: "Paint", key: "P", hint: "Paint what belongs to the object; Fill in paints what the paint encloses." },
  erase: { label: "Erase", key: "E", hint: "Paint what does not belong to the selected object." },
  split: { label: "Split", key: "S", hint: "Draw a line across the selected object." },
  fill: { label: "Fill", key: "J", hint: "Click a hole of the selected object; without a click, Enter fills all of them." },
  measure: { label: "Measure", key: "L", hint: "Draw a line between two points whose distance you know." },
  lengths: { label: "Two lengths", key: "Shift+L", hint: "Draw two lines whose lengths you know, not beside each other: they give the field of view." },
  vertical: { label: "Vertical", key: "Y", hint: "Draw along an edge that is vertical, from below to above." },
  horizon: { label: "Horizon", key: "Z", hint: "Draw a line where the horizon is, or would be." },
  floor: { label: "Floor", key: "N", hint: "Click where the floor is seen." },
} as const;
export type ToolName = keyof typeof TOOLS;

/** What a tool needs of the page. */
export interface Bench {
  state(): State;
  /** The object that is changed: the one that is selected, if it is one only. */
  target(): number | null;
  photo: PhotoView;
  brush(): number;
  /** What is given as the length of the first line, or of the second. */
  metres(second: boolean): number;
  say(text: string): void;
  /** Called when there is something to apply, or no longer. */
  ready(ready: boolean): void;
}

export interface Tool extends Pointing {
  /** The step that was sketched; null if there is none. */
  step(): Step | null;
}

/** Takes a place at working size to one of the photo as given. */
const atPhoto = (state: State, place: Place): Place => scaled(place, state.size, state.original);

/** Clicks, scribbles or a box: asks the network what they mean, and shows it. */
function prompting(bench: Bench, draws: "click" | "scribble" | "box"): Tool {
  const inside: Place[] = [];
  const outside: Place[] = [];
  let line: Place[] = [];
  let aside = false;
  let box: Box | null = null;
  let asked = 0;
  const sketch = (outline = "") => bench.photo.sketch({ outline, inside, outside, box, lines: [line] });

  function prompt(): Prompt | null {
    if (inside.length === 0 && box === null) return null;
    const state = bench.state();
    const places = (each: Place[]) => each.map((place) => atPhoto(state, place));
    const corners = box && ([...atPhoto(state, [box[0], box[1]]), ...atPhoto(state, [box[2], box[3]])] as Box);
    return { object: bench.target() ?? state.next_id, inside: places(inside), outside: places(outside), box: corners };
  }

  async function ask(): Promise<void> {
    const wanted = prompt();
    sketch();
    if (wanted === null) return;
    const number = ++asked;
    const found = await answer(wanted);
    if (number !== asked) return; // another click came in between
    sketch(found.outline);
    bench.ready(found.area > 0);
    bench.say(found.area > 0 ? `${found.label}, ${found.area} pixels. Enter applies it.` : "This means nothing. Add clicks.");
  }

  return {
    press(place, away) {
      line = [place];
      aside = away;
    },
    move(place) {
      if (line.length === 0 || draws === "click") return;
      if (draws === "scribble") line.push(place);
      else box = boxOf(line[0]!, place);
      sketch();
    },
    release(place) {
      if (line.length === 0) return;
      if (draws === "box") box = boxOf(line[0]!, place);
      else (aside ? outside : inside).push(...spaced(line, SCRIBBLE_CLICKS));
      line = [];
      ask().catch((error: Error) => bench.say(error.message));
    },
    step: () => {
      const wanted = prompt();
      return wanted && { kind: "prompt", ...wanted };
    },
  };
}

function painting(bench: Bench, adds: boolean): Tool {
  let last: Place | null = null;
  const dab = (place: Place) => {
    if (last === null) return;
    bench.photo.stroke(last, place, bench.brush());
    last = place;
  };
  return {
    press(place) {
      last = place;
      dab(place);
    },
    move: dab,
    release(place) {
      dab(place);
      last = null;
      bench.ready(true);
      bench.say("Enter applies what was painted.");
    },
    step() {
      const runs = bench.photo.paintedRuns();
      const object = bench.target() ?? (adds ? bench.state().next_id : null);
      return runs && object !== null ? { kind: "painted", object, adds, runs } : null;
    },
  };
}

/** Draws so many lines: where there is one more, the first is forgotten. */
function lining(bench: Bench, count: number, hint: string, made: (lines: [Place, Place][]) => Step | null): Tool {
  const lines: [Place, Place][] = [];
  let start: Place | null = null;
  const draw = (place: Place) => {
    if (start === null) return;
    bench.photo.sketch({ lines: [...lines, [start, place]] });
  };
  return {
    press(place) {
      start = place;
      if (lines.length === count) lines.shift();
    },
    move: draw,
    release(place) {
      if (start === null) return;
      draw(place);
      lines.push([start, place]);
      start = null;
      bench.ready(lines.length === count);
      bench.say(lines.length === count ? hint : "Now the next one.");
    },
    step() {
      const given = lines.map((line) => line.map((place) => atPhoto(bench.state(), place)) as [Place, Place]);
      return lines.length === count ? made(given) : null;
    },
  };
}

/** A click, which may be left out. */
function placing(bench: Bench, hint: string, made: (at: Place | null) => Step | null): Tool {
  let at: Place | null = null;
  return {
    press: () => undefined,
    move: () => undefined,
    release(place) {
      at = place;
      bench.photo.sketch({ inside: [place] });
      bench.ready(true);
      bench.say(hint);
    },
    step: () => made(at && atPhoto(bench.state(), at)),
  };
}

/** A line as a length; null unless it is given. */
function length([start, end]: [Place, Place], metres: number): Length | null {
  return metres > 0 ? { start, end, metres } : null;
}

export function tool(name: ToolName, bench: Bench): Tool | null {
  switch (name) {
    case "select":
      return null;
    case "click":
    case "scribble":
    case "box":
      return prompting(bench, name);
    case "paint":
      return painting(bench, true);
    case "erase":
      return painting(bench, false);
    case "fill":
      return placing(bench, "Enter fills this hole.", (at) => {
        const object = bench.target();
        return object === null ? null : { kind: "fill", object, at };
      });
    case "split":
      return lining(bench, 1, "Enter splits the selected object along this line.", ([line]) => {
        const object = bench.target();
        return object === null ? null : { kind: "split", object, part: bench.state().next_id, start: line![0], end: line![1] };
      });
    case "measure":
      return lining(bench, 1, "Give the length in metres; Enter applies it.", ([line]) => {
        const known = length(line!, bench.metres(false));
        return known && { kind: "length", ...known };
      });
    case "lengths":
      return lining(bench, 2, "Give both lengths in metres; Enter applies them.", ([one, other]) => {
        const [first, second] = [length(one!, bench.metres(false)), length(other!, bench.metres(true))];
        return first && second && { kind: "lengths", first, second };
      });
    case "vertical":
    case "horizon":
      return lining(bench, 1, "Enter applies this line.", ([line]) => ({ kind: name, start: line![0], end: line![1] }));
    case "floor":
      return placing(bench, "Enter puts the floor here.", (at) => at && { kind: "floor", at });
  }
}
