// The scene beside the photo: as it was made last, cut against the photo or against the scene before.

import { hasWebGL, openScene } from "../scene.js";
import { type Made, type Place, getScene } from "./api.js";
import { enable, found, press } from "./elements.js";

export type Compared = "photo" | "before" | "";

export class SceneView {
  private readonly frame = found("#scene");
  private readonly cut = found<HTMLInputElement>("#cut");
  private readonly depth = found<HTMLImageElement>("#depth");
  private view: Awaited<ReturnType<typeof openScene>> | null = null;
  private glb: ArrayBuffer | null = null;
  private made: Made | null = null;

  constructor(
    private readonly onPick: (id: number | null) => void,
    private readonly onHover: (id: number | null) => void,
  ) {
    this.cut.addEventListener("input", () => this.moveCut());
  }

  /** Shows the scene that was made last. Says whether that is another one than before. */
  async show(made: Made | null): Promise<boolean> {
    const known = made?.glb.sha256 === this.made?.glb.sha256;
    this.made = made;
    if (made === null || known) return false;
    enable({ depth: true });
    this.loadDepth();
    if (!hasWebGL()) {
      this.frame.dataset.state = "unavailable";
      return false;
    }
    const before = this.glb;
    this.glb = await getScene();
    this.view?.close();
    const names = new Map(made.objects.map(({ id, name }) => [id, name]));
    const onView = (view: string) => (this.frame.dataset.view = view);
    this.view = await openScene(this.canvas(), this.glb, names, this.onPick, onView, this.onHover);
    if (before !== null) await this.view.compare(before);
    enable({ before: before !== null });
    this.compare(this.compared());
    this.frame.dataset.state = "ready";
    found("#scene + .toolbar").hidden = false;
    return true;
  }

  /** Marks the object that is meant, and hides others. */
  mark(meant: number | null, hidden: ReadonlySet<number>): void {
    this.view?.select(meant);
    this.view?.hide(hidden);
  }

  /** Width, height and depth of an object, metres; null if it is not there. */
  size(id: number): number[] | null {
    return this.view?.size(id) ?? null;
  }

  /** How far away the scene is where the photo shows a place, as shares of its width and height; null for nothing. */
  distance([across, down]: Place): number | null {
    return this.view?.distance(across, down) ?? null;
  }

  /** Shows an object where it will be once it is made at this distance over the one that depth says; null: where it was made. */
  setDistance(object: number, factor: number | null): void {
    const made = this.made?.objects.find(({ id }) => id === object);
    if (made) this.view?.setDistance(object, factor === null ? 1 : factor / made.distance);
  }

  showPhotoView(): void {
    this.view?.showPhotoView();
  }

  /** Shows the photo, or the scene before, to the left of the cut; not any more if it is shown. */
  toggle(what: Compared): void {
    this.compare(this.compared() === what ? "" : what);
  }

  /** Shows the depth that the scene was made with under the photo's outlines, or the photo again. */
  toggleDepth(): void {
    this.depth.hidden = !this.depth.hidden;
    press("depth", !this.depth.hidden);
    this.loadDepth();
  }

  private compared(): Compared {
    return (this.frame.dataset.compared ?? "") as Compared;
  }

  private compare(what: Compared): void {
    this.frame.dataset.compared = what;
    found("#wipe").hidden = what === "";
    for (const name of ["photo", "before"]) press(name, name === what);
    if (what === "photo") this.showPhotoView(); // elsewhere, photo and scene do not lie on one another
    this.moveCut();
  }

  private moveCut(): void {
    this.frame.style.setProperty("--cut", `${this.cut.value}%`);
    this.view?.setCut(this.compared() === "before" ? this.cut.valueAsNumber / 100 : 0);
  }

  private loadDepth(): void {
    if (!this.depth.hidden) this.depth.src = `depth.png?${this.made?.glb.sha256}`;
  }

  private canvas(): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The scene in 3D. Drag to turn it; with the keyboard, hold Ctrl and use the arrow keys.");
    this.frame.querySelector("canvas")?.remove();
    this.frame.prepend(canvas);
    return canvas;
  }
}
