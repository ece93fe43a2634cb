// Places of the photo: in the window, at working size, in the photo as given; and which object is there.

import type { Place } from "./api.js";

export type Box = [number, number, number, number];

const between = (value: number, most: number) => Math.min(Math.max(value, 0), most);

/** The nearest place inside a picture of `size`. */
export const within = ([u, v]: Place, size: Place): Place => [between(u, size[0]), between(v, size[1])];

/** Where a place of the window lies in a picture of `size` that fills `frame`. */
export function placeIn(frame: { left: number; top: number; width: number; height: number }, size: Place, at: Place): Place {
  return within([((at[0] - frame.left) / frame.width) * size[0], ((at[1] - frame.top) / frame.height) * size[1]], size);
}

/** Takes a place of a picture of one size to the same picture at another. */
export const scaled = ([u, v]: Place, from: Place, to: Place): Place => [(u * to[0]) / from[0], (v * to[1]) / from[1]];

/** The box between two corners; null if it has no area. */
export function boxOf([u0, v0]: Place, [u1, v1]: Place): Box | null {
  return u0 === u1 || v0 === v1 ? null : [Math.min(u0, u1), Math.min(v0, v1), Math.max(u0, u1), Math.max(v0, v1)];
}

/** The polygons of an outline, as the server writes it: `M0 0L4 0L4 4Z`, from centre to centre of pixels. */
export function polygons(outline: string): Place[][] {
  return outline
    .split("Z")
    .filter(Boolean)
    .map((path) =>
      path
        .slice(1)
        .split("L")
        .map((corner) => corner.split(" ").map((value) => Number(value) + 0.5) as Place),
    );
}

/** Whether a place is inside polygons by the rule `evenodd`: holes are outside. */
export function contains(shapes: readonly Place[][], [u, v]: Place): boolean {
  let inside = false;
  for (const corners of shapes) {
    for (let index = 0; index < corners.length; index++) {
      const [u0, v0] = corners[index]!;
      const [u1, v1] = corners[(index + 1) % corners.length]!;
      if (v0 > v !== v1 > v && u < u0 + ((v - v0) / (v1 - v0)) * (u1 - u0)) inside = !inside;
    }
  }
  return inside;
}
