import { expect, test } from "vitest";
import type { Edit, Job, Made, ShownObject } from "../src/studio/api.js";
import { EVERY, choices, described, facts, fieldOfView, objects, progress, remark } from "../src/studio/told.js";

const SAID = { locked: false, seed: 0, method: "embedded", given_mesh: false, given_picture: false, stands: null, distance: null };
const mug: ShownObject = { id: 3, label: "mug", sure: 0.864, score: 0.9, box: [0, 0, 9, 9], area: 81, outline: "", ...SAID };
const made: Made = {
  revision: 4,
  glb: { sha256: "0" },
  files: [],
  intrinsics: { fx: 800, width: 1024 },
  objects: [{ id: 3, name: "mug_003", distance: 1, scores: { silhouette_iou: 0.987 } }],
  failures: [],
  warnings: [],
};
const job: Job = { state: "running", stages: [], error: "" };

test("what is known of an object is said, and nothing else", () => {
  expect(facts(mug, made, [0.1, 0.123, 0.09])).toBe("86 % sure, 0.10 x 0.12 x 0.09 m, fits 99 %");
  expect(facts({ ...mug, sure: null }, null, null)).toBe("");
  expect(facts({ ...mug, id: 4, sure: null }, made, null)).toBe("");
  expect(facts({ ...mug, sure: null, given_picture: true }, null, null)).toBe("given picture");
  const said = { ...mug, sure: null, locked: true, given_mesh: true, stands: 5, distance: 1.2 };
  expect(facts(said, null, null)).toBe("given mesh, on object 5, 1.2 x as far, locked");
  expect([objects(0), objects(1), objects(2)]).toEqual(["0 objects", "1 object", "2 objects"]);
});

test("a remark advises what can be done on this page", () => {
  expect(remark("note: 46 degrees are estimated; give --fov if you know it.")).toBe(
    "46 degrees are estimated; if you know it, give it by Field of view (F).",
  );
  expect(remark("object 3: hardly seen any more")).toBe("object 3: hardly seen any more");
});

test("every kind of edit is described in words of its own", () => {
  const edits: Edit[] = [
    { kind: "prompt", object: 3, inside: [[1, 2], [3, 4]], outside: [[5, 6]], box: null },
    { kind: "prompt", object: 3, inside: [], outside: [], box: [0, 0, 5, 5] },
    { kind: "paint", object: 3 },
    { kind: "merge", objects: [3, 5] },
    { kind: "split", object: 3, part: 9, start: [0, 0], end: [5, 5] },
    { kind: "remove", object: 3, shows: "background" },
    { kind: "remove", object: 3, shows: "unknown" },
    { kind: "rename", object: 3, label: "red mug" },
    { kind: "field_of_view", degrees: 55 },
    { kind: "length", start: [0, 0], end: [5, 5], metres: 0.25 },
    { kind: "regenerate", object: 3, seed: 7 },
    { kind: "regenerate", object: 3, seed: 7, method: "inflate" },
    { kind: "fill", object: 3, at: null },
    { kind: "fill", object: 3, at: [4, 4] },
    { kind: "lock", object: 3, locked: true },
    { kind: "lock", object: 3, locked: false },
    { kind: "lengths", first: { start: [0, 0], end: [5, 5], metres: 0.25 }, second: { start: [0, 0], end: [5, 5], metres: 2 } },
    { kind: "vertical", start: [0, 0], end: [5, 5] },
    { kind: "horizon", start: [0, 0], end: [5, 5] },
    { kind: "floor", at: [4, 4] },
    { kind: "support", object: 3, on: 5 },
    { kind: "support", object: 3, on: "nothing" },
    { kind: "order", front: 3, behind: 5 },
    { kind: "distance", object: 3, factor: 1.1 },
    { kind: "distance", object: 3, factor: null },
    { kind: "mesh", object: 3, mesh: {} },
    { kind: "mesh", object: 3, mesh: null },
    { kind: "picture", object: 3, picture: {} },
    { kind: "picture", object: 3, picture: null },
    { kind: "formats", formats: ["mjcf"], usdz: true },
    { kind: "formats", formats: ["mjcf"], usdz: false },
  ];
  const said = edits.map(described);
  expect(said.slice(0, 4)).toEqual(["Object 3 drawn anew by 3 clicks", "Object 3 drawn anew by a box", "Object 3 painted", "Merged 3, 5"]);
  expect(new Set(said).size).toBe(edits.length);
  expect(said.join()).not.toMatch(/undefined|null|NaN/);
});

test("candidates are the next seeds of one generator, or all generators", () => {
  expect(choices({ ...mug, seed: 7 }, ["embedded", "inflate"], "inflate")).toEqual(
    [8, 9, 10, 11].map((seed) => ({ seed, method: "inflate" })),
  );
  expect(choices({ ...mug, seed: 7 }, ["embedded", "inflate"], EVERY)).toEqual([
    { seed: 7, method: "embedded" },
    { seed: 7, method: "inflate" },
  ]);
});

test("the field of view is the one of the camera", () => {
  expect(fieldOfView({ fx: 500, width: 1000 })).toBeCloseTo(90, 9);
  expect(fieldOfView({ fx: 500 * Math.sqrt(3), width: 1000 })).toBeCloseTo(60, 9);
});

test("progress says what runs and how much has ended", () => {
  const running: Job = { ...job, stages: [["read", "found"], ["depth", "done"], ["generate 3", "step 2 of 8"], ["generate 4", "running"], ["compose", "waiting"]] };
  expect(progress(running, null, 4)).toEqual({ text: "generate 3: step 2 of 8, generate 4", bar: { value: 2, max: 8 } });
  expect(progress(null, null, 0)).toEqual({ text: "", bar: null });
});

test("a scene of before the last edits, a failure and a cancelled making are said", () => {
  expect(progress({ ...job, state: "done" }, made, 4).text).toBe("");
  expect(progress({ ...job, state: "done" }, made, 5).text).toContain("make it again");
  expect(progress({ ...job, state: "failed", error: "no room" }, made, 5).text).toContain("no room");
  expect(progress({ ...job, state: "cancelled" }, made, 5).text).toContain("kept");
});
