// What the page says of objects, edits and the making of scenes, in words.

import type { Choice, Edit, Job, Made, ShownObject, Stand } from "./api.js";

export const objects = (count: number): string => `${count} object${count === 1 ? "" : "s"}`;

/** How sure the name is, how large the object is in metres, how well it was made, and what was said of it, as far as that is known. */
export function facts(shown: ShownObject, made: Made | null, size: readonly number[] | null): string {
  const scores = made?.objects.find(({ id }) => id === shown.id)?.scores;
  return [
    shown.sure === null ? "" : `${Math.round(100 * shown.sure)} % sure`,
    size ? `${size.map((side) => side.toFixed(2)).join(" x ")} m` : "",
    scores ? `fits ${Math.round(100 * scores.silhouette_iou)} %` : "",
    shown.given_mesh ? "given mesh" : shown.given_picture ? "given picture" : "",
    shown.stands === null ? "" : `on ${carrier(shown.stands)}`,
    shown.distance === null ? "" : `${shown.distance} x as far`,
    shown.locked ? "locked" : "",
  ]
    .filter(Boolean)
    .join(", ");
}

const STANDS = { floor: "the floor", background: "the background", nothing: "nothing", photo: "what the photo suggests" };

/** What carries an object, in words. */
export const carrier = (on: Stand): string => (typeof on === "number" ? `object ${on}` : STANDS[on]);

/** What an edit did. */
export function described(edit: Edit): string {
  switch (edit.kind) {
    case "prompt":
      return `Object ${edit.object} drawn anew by ${edit.box ? "a box" : `${edit.inside.length + edit.outside.length} clicks`}`;
    case "paint":
      return `Object ${edit.object} painted`;
    case "fill":
      return edit.at === null ? `Holes of object ${edit.object} filled` : `A hole of object ${edit.object} filled`;
    case "merge":
      return `Merged ${edit.objects.join(", ")}`;
    case "split":
      return `Object ${edit.object} split: ${edit.part} is new`;
    case "remove":
      return edit.shows === "background" ? `Object ${edit.object} is background` : `Object ${edit.object} deleted`;
    case "rename":
      return `Object ${edit.object} is called ${edit.label}`;
    case "lock":
      return `Object ${edit.object} ${edit.locked ? "locked" : "unlocked"}`;
    case "field_of_view":
      return `Field of view ${edit.degrees} degrees`;
    case "length":
      return `A length of ${edit.metres} m`;
    case "lengths":
      return `Lengths of ${edit.first.metres} m and ${edit.second.metres} m`;
    case "vertical":
      return "An edge is vertical";
    case "horizon":
      return "The horizon";
    case "floor":
      return "A place of the floor";
    case "support":
      return `Object ${edit.object} stands on ${carrier(edit.on)}`;
    case "order":
      return `Object ${edit.front} is in front of object ${edit.behind}`;
    case "distance":
      return `Object ${edit.object} at ${edit.factor === null ? "the distance" : `${edit.factor} of the distance`} that depth says`;
    case "regenerate":
      return `Object ${edit.object} with seed ${edit.seed}${edit.method ? ` by ${edit.method}` : ""}`;
    case "mesh":
      return edit.mesh === null ? `Object ${edit.object} generated again` : `Object ${edit.object} is a given mesh`;
    case "picture":
      return `Object ${edit.object} is made from ${edit.picture === null ? "the photo again" : "a given picture"}`;
    case "formats":
      return `Formats ${["glb", "usd", ...(edit.usdz ? ["usdz"] : []), ...edit.formats].join(", ")}`;
  }
}

/** What remarks advise on the command line, and what is done on this page instead. */
const HERE = [
  ["give --fov if you know it", "if you know it, give it by Field of view (F)"],
  ["give --depth for true ones", "for true ones, Measure (L) something"],
  ["give --depth for true metres, or set depth.distance_m", "for true metres, Measure (L) something"],
  ["give --masks, or try another segmenter, for example with --preset pixal3d", "Click (C) on a thing, or draw a Box (X) around it"],
] as const;

/** A remark as it is said here. */
export function remark(text: string): string {
  return HERE.reduce((said, [there, here]) => said.replace(there, here), text.replace(/^note: /, ""));
}

export interface Progress {
  text: string;
  /** Stages that have ended, and all that are known of; null unless a scene is being made. */
  bar: { value: number; max: number } | null;
}

const FEWEST_STAGES = 8;

/** How far the making is. */
export function progress(job: Job | null, made: Made | null, revision: number): Progress {
  if (job === null) return { text: "", bar: null };
  switch (job.state) {
    case "running": {
      const ended = job.stages.filter(([, how]) => how === "done" || how === "found").length;
      const busy = job.stages.filter(([, how]) => !["done", "found", "waiting", "failed"].includes(how));
      return {
        text: busy.map(([stage, how]) => (how === "running" ? stage : `${stage}: ${how}`)).join(", "),
        bar: { value: ended, max: Math.max(job.stages.length, FEWEST_STAGES) },
      };
    }
    case "done": {
      const old = made !== null && made.revision !== revision;
      return { text: old ? "The scene is of before the last edits: make it again." : "", bar: null };
    }
    case "failed":
      return { text: `It could not be made: ${job.error}`, bar: null };
    case "cancelled":
      return { text: "Cancelled; finished work is kept.", bar: null };
  }
}

/** The horizontal field of view in degrees. */
export const fieldOfView = ({ fx, width }: Made["intrinsics"]): number => (360 / Math.PI) * Math.atan(width / (2 * fx));

const CANDIDATES = 4;
export const EVERY = "*";

/** The candidates of an object: the next seeds of one generator, or each generator with the present seed. */
export function choices(shown: ShownObject, generators: readonly string[], method: string): Choice[] {
  if (method === EVERY) return generators.map((each) => ({ seed: shown.seed, method: each }));
  return Array.from({ length: CANDIDATES }, (_, index) => ({ seed: shown.seed + index + 1, method }));
}
