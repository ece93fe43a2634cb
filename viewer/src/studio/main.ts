// The studio's page: photo and scene side by side, and what a person does to them. All that counts is on the server.

import { hasWebGL, openScene } from "../scene.js";
import { type News, type Place, type Stand, type State, type Step, getScene, getState, order, take } from "./api.js";
import { shortcut, spoken } from "./keys.js";
import { PhotoView, colour } from "./photo.js";
import { asking } from "./question.js";
import { carrier, described, distance, facts, locked, objects, progress } from "./told.js";
import { TOOLS, type Tool, type ToolName, tool } from "./tools.js";

const STEPS_AWAY = 5;

type SceneView = Awaited<ReturnType<typeof openScene>>;

function found<E extends Element = HTMLElement>(selector: string): E {
  const element = document.querySelector<E>(selector);
  if (element === null) throw new Error(`the page lacks ${selector}`);
  return element;
}

const status = found("#status");
const list = found("#list");
const apply = found<HTMLButtonElement>("[data-do=apply]");
const brush = found<HTMLInputElement>("#brush");
const metres = found<HTMLInputElement>("#metres");
const metres2 = found<HTMLInputElement>("#metres2");
const away = found<HTMLInputElement>("#away");
const frame = found("#scene");
const cut = found<HTMLInputElement>("#cut");

let state: State;
let selected = new Set<number>();
let hovered: number | null = null;
let current: Tool | null = null;
let toolName: ToolName = "select";
let scene: SceneView | null = null;
let sceneShown = "";
let glb: ArrayBuffer | null = null;
let hidden = new Set<number>();

const photo = new PhotoView(found<SVGSVGElement>("#outlines"), found<HTMLCanvasElement>("#paint"), pick, hover);
const bench = {
  state: () => state,
  target: () => (selected.size === 1 ? [...selected][0]! : null),
  photo,
  brush: () => brush.valueAsNumber,
  metres: (second: boolean) => (second ? metres2 : metres).valueAsNumber,
  say,
  ready: (ready: boolean) => (apply.disabled = !ready),
};

function say(text: string): void {
  status.textContent = text;
}

function trying(work: () => Promise<unknown>): void {
  work().catch((error: Error) => say(error.message));
}

// What is selected and meant -------------------------------------------------------------------------------------------

function pick(id: number | null, more: boolean): void {
  if (!more) selected = new Set(id === null || (selected.size === 1 && selected.has(id)) ? [] : [id]);
  else if (id !== null) selected.has(id) ? selected.delete(id) : selected.add(id);
  mark();
}

function hover(id: number | null, at: Place | null = null): void {
  found("#under").textContent = at === null ? "" : under(id, at);
  if (id === hovered) return;
  hovered = id;
  mark();
}

/** What is under the pointer, and how far the scene is there. */
function under(id: number | null, [u, v]: Place): string {
  const shown = state.objects.find((item) => item.id === id);
  const far = scene?.distance(u / state.size[0], v / state.size[1]) ?? null;
  return `${shown ? `${id} ${shown.label}` : "background"}${far === null ? "" : `, ${far.toFixed(2)} m away`}`;
}

function mark(): void {
  photo.mark(selected, hovered);
  for (const row of list.children as HTMLCollectionOf<HTMLElement>) {
    const id = Number(row.dataset.id);
    row.classList.toggle("hovered", id === hovered);
    row.querySelector("button")!.setAttribute("aria-pressed", String(selected.has(id)));
  }
  scene?.select(hovered ?? bench.target());
  scene?.hide(hidden);
  const count = selected.size;
  const target = bench.target();
  enable({ merge: count > 1, front: count === 2, remove: count > 0, background: count > 0 });
  enable({ rename: count === 1, again: count === 1, stand: count === 1, lock: count === 1, nearer: count === 1, farther: count === 1 });
  found("[data-do=lock]").setAttribute("aria-pressed", String(target !== null && locked(state.done, target)));
  away.disabled = target === null;
  away.value = String((target === null ? null : distance(state.done, target)) ?? 1);
  enable({ hide: count > 0, isolate: count > 0, showall: hidden.size > 0 });
}

function enable(buttons: Record<string, boolean>): void {
  for (const [name, on] of Object.entries(buttons)) found<HTMLButtonElement>(`[data-do=${name}]`).disabled = !on;
}

// What the server says -------------------------------------------------------------------------------------------------

async function refresh(): Promise<void> {
  show(await getState());
}

function show(now: State): void {
  state = now;
  document.title = `${now.name} - scenegen studio`;
  found("h1").textContent = now.name;
  selected = new Set([...selected].filter((id) => now.objects.some((item) => item.id === id)));
  photo.show(now);
  list.replaceChildren(...now.objects.map(row));
  found("#count").textContent = objects(now.objects.length);
  found("#edits ol").replaceChildren(...now.done.map((edit) => item(described(edit))));
  found("#edits summary").textContent = `Edits: ${now.done.length}`;
  found("#warnings").replaceChildren(...[...now.warnings, ...(now.made?.warnings ?? [])].map(item));
  const chip = found("#state");
  chip.textContent = now.published ? "Published" : "Not published";
  chip.className = `chip ${now.published ? "good" : "fair"}`;
  found("#files").replaceChildren(...now.files.filter((name) => !name.includes("/")).map(link));
  enable({ undo: now.can_undo, redo: now.can_redo });
  showProgress(now);
  showDistances();
  mark();
  trying(showScene);
}

function item(text: string): HTMLLIElement {
  const line = document.createElement("li");
  line.textContent = text.replace(/^note: /, "");
  return line;
}

function link(name: string): HTMLLIElement {
  const line = document.createElement("li");
  const anchor = document.createElement("a");
  anchor.href = `published/${encodeURIComponent(name)}`;
  anchor.textContent = name;
  line.append(anchor);
  return line;
}

function row(shown: State["objects"][number]): HTMLLIElement {
  const line = document.createElement("li");
  line.dataset.id = String(shown.id);
  line.style.setProperty("--colour", colour(shown.id));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = `${shown.id} ${shown.label}`;
  button.addEventListener("click", (event) => pick(shown.id, event.shiftKey || event.ctrlKey || event.metaKey));
  const note = document.createElement("span");
  note.className = "note";
  note.textContent = facts(shown, state.made, scene?.size(shown.id) ?? null);
  line.append(button, note);
  line.addEventListener("pointerenter", () => hover(shown.id));
  line.addEventListener("pointerleave", () => hover(null));
  button.addEventListener("focus", () => hover(shown.id));
  button.addEventListener("blur", () => hover(null));
  return line;
}

function showProgress({ job, made, revision }: State): void {
  const running = job?.state === "running";
  const { text, bar } = progress(job, made, revision);
  const shown = found<HTMLProgressElement>("progress");
  shown.hidden = bar === null;
  if (bar !== null) [shown.value, shown.max] = [bar.value, bar.max];
  enable({ make: !running, publish: !running });
  found("[data-do=cancel]").hidden = !running;
  found("#making").textContent = text;
}

// The scene ------------------------------------------------------------------------------------------------------------

async function showScene(): Promise<void> {
  if (state.made === null || state.made.glb.sha256 === sceneShown) return;
  sceneShown = state.made.glb.sha256;
  enable({ depth: true });
  loadDepth();
  if (!hasWebGL()) {
    frame.dataset.state = "unavailable";
    return;
  }
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The scene in 3D. Drag to turn it; with the keyboard, hold Ctrl and use the arrow keys.");
  const names = new Map(state.made.objects.map(({ id, name }) => [id, name]));
  const before = glb;
  glb = await getScene();
  scene?.close();
  frame.querySelector("canvas")?.remove();
  frame.prepend(canvas);
  scene = await openScene(canvas, glb, names, (id: number | null) => pick(id, false), onView, hover);
  if (before !== null) await scene.compare(before);
  enable({ before: before !== null });
  comparing(compared());
  showDistances();
  frame.dataset.state = "ready";
  found("#scene + .toolbar").hidden = false;
  list.replaceChildren(...state.objects.map(row));
  mark();
}

/** The photo lies over the scene only where both are seen by one camera. */
function onView(view: "photo" | "free"): void {
  frame.dataset.view = view;
}

type Compared = "photo" | "before" | "";
const compared = (): Compared => (frame.dataset.compared ?? "") as Compared;

/** Shows the photo, or the scene as it was before, to the left of the cut. */
function comparing(what: Compared): void {
  frame.dataset.compared = what;
  found("#wipe").hidden = what === "";
  for (const name of ["photo", "before"]) found(`[data-do=${name}]`).setAttribute("aria-pressed", String(name === what));
  if (what === "photo") scene?.showPhotoView();
  moveCut();
}

function moveCut(): void {
  frame.style.setProperty("--cut", `${cut.value}%`);
  scene?.setCut(compared() === "before" ? cut.valueAsNumber / 100 : 0);
}

function toggleDepth(): void {
  const shown = found("#depth");
  shown.hidden = !shown.hidden;
  found("[data-do=depth]").setAttribute("aria-pressed", String(!shown.hidden));
  loadDepth();
}

/** The depth that the scene was made with, once it is looked at. */
function loadDepth(): void {
  const shown = found<HTMLImageElement>("#depth");
  if (!shown.hidden) shown.src = `depth.png?${sceneShown}`;
}

// What a person does ---------------------------------------------------------------------------------------------------

async function step(made: Step): Promise<void> {
  say("");
  try {
    show(await take(state.revision, made));
  } catch (error) {
    await refresh();
    throw error;
  }
}

function choose(name: ToolName): void {
  toolName = name;
  current = tool(name, bench);
  photo.pointing = current;
  photo.sketch({});
  photo.clearPaint();
  apply.disabled = true;
  document.body.dataset.tool = name;
  say(TOOLS[name].hint);
  for (const button of document.querySelectorAll<HTMLElement>("#tools [data-tool]")) {
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
}

async function applied(): Promise<void> {
  const made = current?.step() ?? null;
  if (made === null) {
    say(current === null ? "Choose a tool first." : `Nothing to apply. ${TOOLS[toolName].hint}`);
    return;
  }
  await step(made);
  choose(toolName);
  if ("object" in made) {
    selected = new Set([made.object]);
    mark();
  }
}

async function each(made: (id: number) => Step): Promise<void> {
  for (const id of [...selected]) await step(made(id));
}

async function rename(): Promise<void> {
  const object = bench.target();
  const shown = state.objects.find(({ id }) => id === object);
  if (shown === undefined) return;
  const label = await asking(`What is object ${shown.id}?`, { text: shown.label });
  if (label !== null) await step({ kind: "rename", object: shown.id, label });
}

async function regenerate(): Promise<void> {
  const object = bench.target();
  if (object === null) return;
  const seed = await asking(`Seed for object ${object}`, { text: String(1 + Math.floor(Math.random() * 1e6)) });
  if (seed !== null) await step({ kind: "regenerate", object, seed: Number(seed) });
}

async function stand(): Promise<void> {
  const object = bench.target();
  if (object === null) return;
  const others = state.objects.filter(({ id }) => id !== object).map(({ id, label }) => [String(id), `${id} ${label}`] as const);
  const surfaces = (["photo", "floor", "background", "nothing"] as const).map((on) => [on, carrier(on)] as const);
  const on = await asking(`What does object ${object} stand on?`, { choices: [...surfaces, ...others] });
  if (on !== null) await step({ kind: "support", object, on: (Number(on) || on) as Stand });
}

async function front(): Promise<void> {
  const [nearer, farther] = [...selected];
  await step({ kind: "order", front: nearer!, behind: farther! });
}

async function lock(): Promise<void> {
  const object = bench.target();
  if (object !== null) await step({ kind: "lock", object, locked: !locked(state.done, object) });
}

/** Shows an object where it will be once the scene is made. */
function showDistance(object: number, factor: number | null): void {
  const made = state.made?.objects.find(({ id }) => id === object);
  if (made) scene?.setDistance(object, factor === null ? 1 : factor / made.distance);
}

function showDistances(): void {
  for (const { id } of state.made?.objects ?? []) showDistance(id, distance(state.done, id));
}

function showAway(): void {
  const object = bench.target();
  if (object !== null) showDistance(object, away.valueAsNumber);
}

async function applyAway(): Promise<void> {
  const object = bench.target();
  if (object === null) return;
  const factor = away.valueAsNumber;
  await step({ kind: "distance", object, factor: factor === 1 ? null : factor });
}

async function moveAway(steps: number): Promise<void> {
  steps < 0 ? away.stepDown(-steps) : away.stepUp(steps);
  showAway();
  await applyAway();
}

/** Hides objects in the 3D view, and nowhere else. */
function hiding(ids: number[]): void {
  hidden = new Set(ids);
  mark();
}

async function fieldOfView(): Promise<void> {
  const degrees = await asking("Horizontal field of view in degrees", { text: "55" });
  if (degrees !== null) await step({ kind: "field_of_view", degrees: Number(degrees) });
}

/** All shortcuts of the page, as the buttons have them. */
async function showKeys(): Promise<void> {
  const shown = [...document.querySelectorAll<HTMLElement>("main [aria-keyshortcuts]")].flatMap((button) => {
    const key = document.createElement("dt");
    const name = document.createElement("dd");
    key.textContent = spoken(button.getAttribute("aria-keyshortcuts")!);
    name.textContent = button.textContent;
    return [key, name];
  });
  found("#keys dl").replaceChildren(...shown);
  found<HTMLDialogElement>("#keys").showModal();
}

const DOES: Record<string, () => Promise<unknown>> = {
  merge: () => step({ kind: "merge", objects: [...selected] }),
  remove: () => each((object) => ({ kind: "remove", object, shows: "unknown" })),
  background: () => each((object) => ({ kind: "remove", object, shows: "background" })),
  rename,
  again: regenerate,
  stand,
  front,
  lock,
  nearer: () => moveAway(-STEPS_AWAY),
  farther: () => moveAway(STEPS_AWAY),
  fov: fieldOfView,
  undo: () => step({ kind: "undo" }),
  redo: () => step({ kind: "redo" }),
  make: () => order("make"),
  cancel: () => order("cancel"),
  publish: () => order("publish"),
  keys: showKeys,
  enclosed: async () => photo.fillPaint(),
  apply: applied,
  depth: async () => toggleDepth(),
  view: async () => scene?.showPhotoView(),
  photo: async () => comparing(compared() === "photo" ? "" : "photo"),
  before: async () => comparing(compared() === "before" ? "" : "before"),
  hide: async () => hiding([...hidden, ...selected]),
  isolate: async () => hiding(state.objects.map(({ id }) => id).filter((id) => !selected.has(id))),
  showall: async () => hiding([]),
};

function byKey(event: KeyboardEvent): void {
  const { target } = event;
  const typing = target instanceof HTMLInputElement && target.type !== "range";
  const pressing = event.key === "Enter" && target instanceof HTMLElement && target.matches("button, a, summary");
  if (document.querySelector("dialog[open]") || pressing || (typing && event.key !== "Enter")) return;
  const button = document.querySelector<HTMLButtonElement>(`[aria-keyshortcuts~="${CSS.escape(shortcut(event))}"]`);
  if (!button?.checkVisibility()) return;
  button.click();
  event.preventDefault();
}

function listen(): void {
  const events = new EventSource("events");
  events.onmessage = (event: MessageEvent<string>) => {
    const news = JSON.parse(event.data) as News;
    const ended = news.job?.state !== "running" && state.job?.state === "running";
    if (news.revision !== state.revision || news.made !== (state.made?.glb.sha256 ?? null) || ended) trying(refresh);
    else {
      state = { ...state, job: news.job };
      showProgress(state);
    }
  };
  events.onerror = () => say("The studio does not answer. What was done is kept: start it again.");
}

async function start(): Promise<void> {
  const tools = found("#tools");
  for (const [name, { label, key }] of Object.entries(TOOLS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.tool = name;
    button.textContent = label;
    button.title = `${label} (${spoken(key)})`;
    button.setAttribute("aria-keyshortcuts", key);
    button.addEventListener("click", () => choose(name as ToolName));
    tools.append(button);
  }
  for (const button of document.querySelectorAll<HTMLButtonElement>("[data-do]")) {
    button.addEventListener("click", () => trying(DOES[button.dataset.do!]!));
  }
  cut.addEventListener("input", moveCut);
  away.addEventListener("input", showAway);
  away.addEventListener("change", () => trying(applyAway));
  document.addEventListener("keydown", byKey);
  say("Looking at the photo ...");
  await refresh();
  found("main").dataset.ready = "";
  choose("select");
  listen();
}

trying(start);
