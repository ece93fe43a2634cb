import { expect, test } from "vitest";
import type { Place } from "../src/studio/api.js";
import { boxOf, contains, placeIn, polygons, scaled, within } from "../src/studio/places.js";

test("a place of the window is one of the photo, whatever the size of its frame", () => {
  const frame = { left: 100, top: 40, width: 400, height: 300 };
  expect(placeIn(frame, [1024, 768], [100, 40])).toEqual([0, 0]);
  expect(placeIn(frame, [1024, 768], [300, 190])).toEqual([512, 384]);
  expect(placeIn(frame, [1024, 768], [9999, -5])).toEqual([1024, 0]);
});

test("a place at working size and the same in the photo as given are one share of the way", () => {
  const [working, original]: [Place, Place] = [[1024, 683], [6000, 4002]];
  const there = scaled([100.25, 7], working, original);
  expect(there[0] / original[0]).toBeCloseTo(100.25 / working[0], 12);
  const back = scaled(there, original, working);
  expect([back[0], back[1]]).toEqual([expect.closeTo(100.25, 9), expect.closeTo(7, 9)]);
  expect(within([-1, 9000], original)).toEqual([0, 4002]);
});

test("a box has its corners in order, and none without an area", () => {
  expect(boxOf([8, 2], [3, 5])).toEqual([3, 2, 8, 5]);
  expect(boxOf([8, 2], [8, 5])).toBeNull();
  expect(boxOf([8, 2], [8, 2])).toBeNull();
});

test("an object is met inside its outline, and not in its holes", () => {
  const ring = polygons("M0 0L9 0L9 9L0 9ZM3 3L6 3L6 6L3 6Z");
  expect(ring).toHaveLength(2);
  expect(ring[0]![0]).toEqual([0.5, 0.5]); // the centre of the first pixel
  expect(contains(ring, [2, 5])).toBe(true);
  expect(contains(ring, [5, 5])).toBe(false);
  expect(contains(ring, [8, 8])).toBe(true);
  expect(contains(ring, [10, 5])).toBe(false);
  expect(contains(polygons(""), [5, 5])).toBe(false);
});

test("parts of one object are all met", () => {
  const parts = polygons("M0 0L4 0L4 4L0 4ZM10 0L14 0L14 4L10 4Z");
  expect([[2, 2], [7, 2], [12, 2]].map((place) => contains(parts, place as Place))).toEqual([true, false, true]);
});
