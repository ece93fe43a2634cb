import { expect, test } from "vitest";
import type { Place } from "../src/studio/api.js";
import { type Mask, emptyMask, fill, runs, spaced, stroke } from "../src/studio/raster.js";

const painted = (mask: Mask) => mask.inside.reduce((sum, pixel) => sum + pixel, 0);
const mask = (...rows: string[]): Mask => ({
  width: rows[0]!.length,
  height: rows.length,
  inside: Uint8Array.from(rows.join(""), (pixel) => Number(pixel === "#")),
});
const drawn = ({ width, inside }: Mask) =>
  Array.from({ length: inside.length / width }, (_, row) =>
    [...inside.subarray(row * width, (row + 1) * width)].map((pixel) => (pixel ? "#" : ".")).join(""),
  );

test("a dab of a brush is a disc, whatever the order of its ends", () => {
  const disc = emptyMask(101, 101);
  stroke(disc, [50.5, 50.5], [50.5, 50.5], 30);
  expect(Math.abs(painted(disc) / (Math.PI * 30 ** 2) - 1)).toBeLessThan(0.01);
  const [there, back] = [emptyMask(60, 40), emptyMask(60, 40)];
  stroke(there, [10, 12], [47, 30], 5);
  stroke(back, [47, 30], [10, 12], 5);
  expect(there).toEqual(back);
  expect(Math.abs(painted(there) / (2 * 5 * Math.hypot(37, 18) + Math.PI * 25) - 1)).toBeLessThan(0.02);
});

test("a stroke changes nothing outside the area it names, nor outside the photo", () => {
  const whole = emptyMask(20, 10);
  const [left, top, right, bottom] = stroke(whole, [-5, 4], [6, 4], 2.5);
  expect([left, top, right, bottom]).toEqual([0, 1, 9, 7]);
  whole.inside.forEach((pixel, index) => {
    const [column, row] = [index % 20, Math.floor(index / 20)];
    if (pixel) expect(column >= left && column < right && row >= top && row < bottom).toBe(true);
  });
  const [x0, y0, x1, y1] = stroke(emptyMask(20, 10), [-50, -50], [-40, -40], 3);
  expect([x1 - x0, y1 - y0]).toEqual([0, 0]);
});

test("filling takes what paint encloses, also through corners, and nothing else", () => {
  const ring = mask(".......", ".####..", ".#..#..", ".#.#...", ".##..#.", ".......");
  fill(ring);
  expect(drawn(ring)).toEqual([".......", ".####..", ".####..", ".###...", ".##..#.", "......."]);
  const open = mask("###", "#..", "###");
  fill(open);
  expect(drawn(open)).toEqual(["###", "#..", "###"]);
});

test("runs begin outside and add up to the photo", () => {
  expect(runs(emptyMask(4, 3))).toBeNull();
  expect(runs(mask("#.", ".#"))).toEqual([0, 1, 2, 1]);
  expect(runs(mask("..", "##"))).toEqual([2, 2]);
  const disc = emptyMask(33, 21);
  stroke(disc, [16, 10], [16, 10], 7);
  const lengths = runs(disc)!;
  expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(33 * 21);
  expect(lengths.filter((_, index) => index % 2).reduce((sum, length) => sum + length, 0)).toBe(painted(disc));
});

test("a scribble becomes clicks that are equally far apart along it", () => {
  const bent: Place[] = [[0, 0], [0, 0], [4, 0], [4, 4]];
  expect(spaced(bent, 5)).toEqual([[0, 0], [2, 0], [4, 0], [4, 2], [4, 4]]);
  expect(spaced([[3, 5]], 5)).toEqual([[3, 5]]);
  expect(spaced([[3, 5], [3, 5]], 5)).toEqual([[3, 5]]);
});
