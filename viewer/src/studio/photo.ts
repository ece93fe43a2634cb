// The photo with the outlines of its objects, and the tools that point at it: with a pointer, or with a cross that arrow keys move.

import type { Place, ShownObject, State } from "./api.js";
import { contains, placeIn, polygons, within } from "./places.js";
import { type Mask, emptyMask, fill, runs, stroke } from "./raster.js";

const SVG = "http://www.w3.org/2000/svg";
const CLICK_PIXELS = 4;
const PAINT = [255, 176, 32, 255];
const STEP = 0.01; // of the photo's longer side, for each press of an arrow key

/** What a tool does with a press at one place of the photo, in pixels at working size, and a release at another. */
export interface Pointing {
  press(place: Place, aside: boolean): void;
  move(place: Place): void;
  release(place: Place): void;
}

function shape<Name extends keyof SVGElementTagNameMap>(name: Name, values: Record<string, string | number> = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, String(value));
  return made;
}

/** The colour of an object, as in the report. */
export function colour(id: number): string {
  return `hsl(${(id * 137.508) % 360} 72% 58%)`;
}

export class PhotoView {
  private readonly outlines = shape("g", { transform: "translate(0.5 0.5)" });
  private readonly draft = shape("g");
  private readonly cross = shape("path", { class: "cross", visibility: "hidden" });
  private readonly paint: CanvasRenderingContext2D;
  private painted: Mask = emptyMask(1, 1);
  private paths = new Map<number, SVGPathElement>();
  /** The larger ones first, as they are drawn. */
  private shapes: { id: number; corners: Place[][] }[] = [];
  private size: Place = [1, 1];
  private at: Place = [0, 0];
  private pressed = false;
  pointing: Pointing | null = null;

  constructor(
    private readonly svg: SVGSVGElement,
    canvas: HTMLCanvasElement,
    private readonly onPick: (id: number | null, more: boolean) => void,
    private readonly onHover: (id: number | null, at: Place | null) => void,
  ) {
    const context = canvas.getContext("2d");
    if (context === null) throw new Error("this browser cannot draw");
    this.paint = context;
    svg.append(this.outlines, this.draft, this.cross);
    this.listen();
  }

  show(state: State): void {
    const [width, height] = state.size;
    if (this.size[0] !== width || this.size[1] !== height) {
      this.size = state.size;
      this.at = [width / 2, height / 2];
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.measure();
      this.paint.canvas.width = width;
      this.paint.canvas.height = height;
      this.painted = emptyMask(width, height);
      document.body.style.setProperty("--shape", `${width} / ${height}`);
    }
    // The larger ones first, so that the smaller ones can be met.
    const items = [...state.objects].sort((a, b) => b.area - a.area);
    this.shapes = items.map(({ id, outline }) => ({ id, corners: polygons(outline) }));
    this.paths = new Map(items.map((item) => [item.id, this.outlined(item)]));
    this.outlines.replaceChildren(...this.paths.values(), ...items.map((item) => this.named(item)));
  }

  /** Marks which objects are chosen, and which one is meant by the pointer. */
  mark(selected: ReadonlySet<number>, hovered: number | null): void {
    for (const [id, path] of this.paths) {
      path.classList.toggle("selected", selected.has(id));
      path.classList.toggle("hovered", id === hovered);
    }
  }

  /** Draws what is not applied yet: an outline, clicks, a box or a line. */
  sketch(sketched: {
    outline?: string;
    inside?: Place[];
    outside?: Place[];
    box?: readonly number[] | null;
    lines?: readonly (readonly Place[])[];
  }): void {
    const radius = Math.max(...this.size) / 120;
    const dots = (places: Place[] | undefined, kind: string) =>
      (places ?? []).map(([cx, cy]) => shape("circle", { cx, cy, r: radius, class: kind }));
    const parts: SVGElement[] = [...dots(sketched.inside, "inside"), ...dots(sketched.outside, "outside")];
    if (sketched.outline) parts.unshift(shape("path", { d: sketched.outline, class: "answer" }));
    if (sketched.box) {
      const [x0, y0, x1, y1] = sketched.box as [number, number, number, number];
      parts.push(shape("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, class: "line" }));
    }
    for (const line of sketched.lines ?? []) parts.push(shape("polyline", { points: line.join(" "), class: "line" }));
    this.draft.replaceChildren(...parts);
  }

  /** Paints a stroke of a round brush. */
  stroke(from: Place, to: Place, radius: number): void {
    this.drawPaint(...stroke(this.painted, from, to, radius));
  }

  /** Paints what the strokes enclose. */
  fillPaint(): void {
    fill(this.painted);
    this.drawPaint(0, 0, ...this.size);
  }

  clearPaint(): void {
    this.painted = emptyMask(...this.size);
    this.paint.clearRect(0, 0, ...this.size);
  }

  /** What was painted, as `runs`. */
  paintedRuns(): number[] | null {
    return runs(this.painted);
  }

  private drawPaint(left: number, top: number, right: number, bottom: number): void {
    if (left === right || top === bottom) return;
    const image = new ImageData(right - left, bottom - top);
    for (let row = top, at = 0; row < bottom; row++) {
      for (let column = left; column < right; column++, at += 4) {
        if (this.painted.inside[row * this.painted.width + column]) image.data.set(PAINT, at);
      }
    }
    this.paint.putImageData(image, left, top);
  }

  /** Tells the style how many pixels of the photo one of the page is, so that names are as large for any photo. */
  private measure(): void {
    this.svg.style.setProperty("--pixel", `${this.size[0] / Math.max(this.svg.clientWidth, 1)}px`);
  }

  private outlined(item: ShownObject): SVGPathElement {
    const path = shape("path", { d: item.outline, "fill-rule": "evenodd" });
    path.style.setProperty("--colour", colour(item.id));
    path.append(shape("title"));
    path.firstElementChild!.textContent = `${item.id} ${item.label}`;
    path.dataset.id = String(item.id);
    return path;
  }

  private named(item: ShownObject): SVGTextElement {
    const [x0, y0, x1] = item.box;
    const size = Math.max(...this.size) / 40;
    const text = shape("text", { x: (x0 + x1) / 2, y: Math.max(y0 - size / 4, size) });
    text.textContent = `${item.id} ${item.label}`;
    return text;
  }

  private place(event: PointerEvent): Place {
    return placeIn(this.svg.getBoundingClientRect(), this.size, [event.clientX, event.clientY]);
  }

  private objectAt(place: Place): number | null {
    return this.shapes.findLast(({ corners }) => contains(corners, place))?.id ?? null;
  }

  private hover(place: Place): void {
    this.onHover(this.objectAt(place), place);
  }

  private listen(): void {
    const { svg } = this;
    let start: PointerEvent | null = null;
    svg.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 && event.button !== 2) return;
      start = event;
      svg.setPointerCapture(event.pointerId);
      this.pointing?.press(this.place(event), event.button === 2 || event.altKey);
    });
    svg.addEventListener("pointermove", (event) => {
      if (start !== null) this.pointing?.move(this.place(event));
      this.hover(this.place(event));
    });
    svg.addEventListener("pointerleave", () => this.onHover(null, null));
    svg.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const moved = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
      start = null;
      this.pointing?.release(this.place(event));
      if (this.pointing === null && moved <= CLICK_PIXELS) {
        this.onPick(this.objectAt(this.place(event)), event.shiftKey || event.ctrlKey || event.metaKey);
      }
    });
    svg.addEventListener("pointercancel", () => (start = null));
    svg.addEventListener("contextmenu", (event) => event.preventDefault());
    svg.addEventListener("keydown", (event) => this.byKey(event));
    svg.addEventListener("focus", () => svg.matches(":focus-visible") && this.moveCross([0, 0]));
    new ResizeObserver(() => this.measure()).observe(svg);
    svg.addEventListener("blur", () => this.cross.setAttribute("visibility", "hidden"));
  }

  /** Arrow keys move the cross, Enter presses and releases there: at once, or with moves between for a box, a line or a brush. */
  private byKey(event: KeyboardEvent): void {
    const moves: Record<string, Place> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const move = moves[event.key];
    if (move !== undefined && !event.ctrlKey && !event.metaKey) {
      const step = STEP * Math.max(...this.size) * (event.shiftKey ? 5 : 1);
      this.moveCross([move[0] * step, move[1] * step]);
      if (this.pressed) this.pointing?.move(this.at);
      this.hover(this.at);
    } else if (event.key === " ") {
      if (this.pointing === null) this.onPick(this.objectAt(this.at), event.shiftKey);
      else if (this.pressed) this.pointing.release(this.at);
      else this.pointing.press(this.at, event.altKey);
      this.pressed = this.pointing !== null && !this.pressed;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private moveCross([across, down]: Place): void {
    this.at = within([this.at[0] + across, this.at[1] + down], this.size);
    const arm = Math.max(...this.size) / 60;
    const [u, v] = this.at;
    this.cross.setAttribute("d", `M${u - arm} ${v}h${2 * arm}M${u} ${v - arm}v${2 * arm}`);
    this.cross.setAttribute("visibility", "visible");
  }
}
