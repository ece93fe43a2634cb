// Masks that are painted: which pixels of the photo at working size a brush has met.

import type { Place } from "./api.js";

export interface Mask {
  width: number;
  height: number;
  /** Row by row: 1 inside, 0 outside. */
  inside: Uint8Array;
}

/** Left, top, right and bottom: pixels from the first to before the second. */
export type Area = [number, number, number, number];

export const emptyMask = (width: number, height: number): Mask => ({ width, height, inside: new Uint8Array(width * height) });

/** Paints the pixels whose centres are at most `radius` from the line between two places. Says which area may have changed. */
export function stroke(mask: Mask, from: Place, to: Place, radius: number): Area {
  const [x0, y0] = from;
  const across = to[0] - x0;
  const down = to[1] - y0;
  const squared = across * across + down * down;
  const left = Math.max(Math.floor(Math.min(x0, to[0]) - radius), 0);
  const right = Math.min(Math.ceil(Math.max(x0, to[0]) + radius), mask.width);
  const top = Math.max(Math.floor(Math.min(y0, to[1]) - radius), 0);
  const bottom = Math.min(Math.ceil(Math.max(y0, to[1]) + radius), mask.height);
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const x = column + 0.5 - x0;
      const y = row + 0.5 - y0;
      const share = squared === 0 ? 0 : Math.min(Math.max((x * across + y * down) / squared, 0), 1);
      const away = (x - share * across) ** 2 + (y - share * down) ** 2;
      if (away <= radius * radius) mask.inside[row * mask.width + column] = 1;
    }
  }
  return [left, top, Math.max(right, left), Math.max(bottom, top)];
}

/** Paints whatever painted pixels enclose: what cannot reach the border from pixel to neighbouring pixel without crossing them. */
export function fill({ width, height, inside }: Mask): void {
  const reached = new Uint8Array(inside.length);
  const waiting: number[] = [];
  const reach = (index: number) => {
    if (inside[index] || reached[index]) return;
    reached[index] = 1;
    waiting.push(index);
  };
  for (let column = 0; column < width; column++) [column, (height - 1) * width + column].forEach(reach);
  for (let row = 0; row < height; row++) [row * width, row * width + width - 1].forEach(reach);
  for (let index = waiting.pop(); index !== undefined; index = waiting.pop()) {
    const column = index % width;
    if (column > 0) reach(index - 1);
    if (column < width - 1) reach(index + 1);
    if (index >= width) reach(index - width);
    if (index < inside.length - width) reach(index + width);
  }
  for (let index = 0; index < inside.length; index++) inside[index] = reached[index] ? 0 : 1;
}

/** How many pixels are outside, then inside, then outside, row by row, as the server takes it; null if none is inside. */
export function runs({ inside }: Mask): number[] | null {
  const lengths = [0];
  let now = 0;
  for (const pixel of inside) {
    if (pixel !== now) {
      now = pixel;
      lengths.push(0);
    }
    lengths[lengths.length - 1]!++;
  }
  return lengths.length > 1 ? lengths : null;
}

/** At most `most` places along a line through places, its ends among them, equally far from one another. */
export function spaced(drawn: readonly Place[], most: number): Place[] {
  const line = drawn.filter(([u, v], index) => index === 0 || u !== drawn[index - 1]![0] || v !== drawn[index - 1]![1]);
  if (line.length < 2) return line;
  const lengths = [0];
  for (let index = 1; index < line.length; index++) {
    const [from, to] = [line[index - 1]!, line[index]!];
    lengths.push(lengths.at(-1)! + Math.hypot(to[0] - from[0], to[1] - from[1]));
  }
  let at = 1;
  return Array.from({ length: most }, (_, number) => {
    const wanted = (lengths.at(-1)! * number) / (most - 1);
    while (at < line.length - 1 && lengths[at]! < wanted) at++;
    const [from, to] = [line[at - 1]!, line[at]!];
    const share = (wanted - lengths[at - 1]!) / (lengths[at]! - lengths[at - 1]!);
    return [from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1])];
  });
}
