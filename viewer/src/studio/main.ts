// The studio's page: photo and scene side by side, and what a person does to them. All that counts is on the server.

import {
  type FileKind,
  type News,
  type Place,
  type ShownObject,
  type Stand,
  type State,
  type Step,
  getState,
  order,
  orderCandidates,
  take,
  takeFile,
} from "./api.js";
import { enable, found, press } from "./elements.js";
import { shortcut, spoken } from "./keys.js";
import { candidate, line, link, otherPhoto, row } from "./lists.js";
import { PhotoView } from "./photo.js";
import { asking, choosing } from "./question.js";
import { SceneView } from "./scene.js";
import { EVERY, carrier, choices, described, facts, fieldOfView, objects, progress, remark } from "./told.js";
import { TOOLS, type Tool, type ToolName, tool } from "./tools.js";

const STEPS_AWAY = 4;
/** Tools that a scene of several photos has no use for. */
const OF_ONE_PHOTO: ToolName[] = ["lengths", "vertical", "horizon"];

const status = found("#status");
const list = found("#list");
const apply = found<HTMLButtonElement>("[data-do=apply]");
const brush = found<HTMLInputElement>("#brush");
const metres = found<HTMLInputElement>("#metres");
const metres2 = found<HTMLInputElement>("#metres2");
const away = found<HTMLInputElement>("#away");

let state: State;
let selected = new Set<number>();
let hovered: number | null = null;
let current: Tool | null = null;
let toolName: ToolName = "select";
let hidden = new Set<number>();
/** Whether to download the files of the scene as soon as they are written. */
let awaitsFiles = false;
/** Ends when the last step that was asked for is done: each goes on from the one before. */
let stepping: Promise<unknown> = Promise.resolve();

const photo = new PhotoView(found<SVGSVGElement>("#outlines"), found<HTMLCanvasElement>("#paint"), pick, hover);
const scene = new SceneView((id) => pick(id, false), hover);
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
  aim();
}

/** What depends on what is selected alone. */
function aim(): void {
  const target = chosen();
  const made = state.made?.objects.find(({ id }) => id === target?.id);
  away.disabled = target === null;
  away.value = String(Math.log10(target?.distance ?? made?.distance ?? 1));
  away.ariaValueText = `${factor()} of the distance that depth says`;
  offer();
  mark();
}

/** Over the distance that depth says, as the slider has it: near and far are as fine. */
const factor = (): number => Number((10 ** away.valueAsNumber).toFixed(3));

/** Whether there is something to apply. */
function offer(): void {
  apply.disabled = !current?.step();
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
  const far = scene.distance([u / state.size[0], v / state.size[1]]);
  return `${shown ? `${id} ${shown.label}` : "background"}${far === null ? "" : `, ${far.toFixed(2)} m away`}`;
}

function mark(): void {
  photo.mark(selected, hovered);
  for (const each of list.children as HTMLCollectionOf<HTMLElement>) {
    const id = Number(each.dataset.id);
    each.classList.toggle("hovered", id === hovered);
    each.querySelector("button")!.setAttribute("aria-pressed", String(selected.has(id)));
  }
  scene.mark(hovered ?? bench.target(), hidden);
  const count = selected.size;
  const target = chosen();
  const alone = state.others.length === 0;
  enable({ merge: count > 1, front: count === 2, remove: count > 0, background: count > 0 });
  const one = target !== null;
  const idle = state.job?.state !== "running";
  const generated = one && !target.given_mesh;
  enable({ rename: one, stand: one, lock: one, nearer: one, farther: one, asseen: one && target.distance !== null });
  enable({ again: generated, candidates: generated && idle, mesh: one, picture: generated && alone });
  press("lock", target?.locked ?? false);
  press("mesh", target?.given_mesh ?? false);
  press("picture", target?.given_picture ?? false);
  enable({ hide: count > 0, isolate: count > 0, showall: hidden.size > 0 });
}

/** The object that is selected, if it is one only. */
function chosen(): ShownObject | null {
  const id = bench.target();
  return state.objects.find((item) => item.id === id) ?? null;
}

// What the server says -------------------------------------------------------------------------------------------------

async function refresh(): Promise<void> {
  show(await getState());
  if (!awaitsFiles || state.job?.state === "running") return;
  awaitsFiles = false;
  if (state.made?.files.length) location.assign("scene.zip");
}

function show(now: State): void {
  state = now;
  document.title = `${now.name} - scenegen studio`;
  found("h1").textContent = now.name;
  selected = new Set([...selected].filter((id) => now.objects.some((item) => item.id === id)));
  photo.show(now);
  showObjects();
  found("#count").textContent = objects(now.objects.length);
  found("#edits ol").replaceChildren(...now.done.map((edit) => line(described(edit))));
  found("#edits summary").textContent = `Edits: ${now.done.length}`;
  found("#warnings").replaceChildren(...[...new Set([...now.warnings, ...(now.made?.warnings ?? [])])].map((text) => line(remark(text))));
  const chip = found("#state");
  chip.textContent = now.published ? "Published" : "Not published";
  chip.className = `chip ${now.published ? "good" : "fair"}`;
  const names = (now.made?.files ?? []).map(([name]) => name);
  found("#files").replaceChildren(...names.filter((name) => !name.includes("/")).map(link));
  found("[data-do=archive]").hidden = now.made === null;
  showCandidates(now.candidates);
  enable({ undo: now.can_undo, redo: now.can_redo });
  showProgress(now);
  showDistances();
  showOthers(now.others);
  aim();
  trying(showScene);
}

/** Shows the other photos of the scene, which edits are not about. */
function showOthers(names: string[]): void {
  const strip = found("#others");
  enable({ fov: names.length === 0 });
  for (const name of OF_ONE_PHOTO) found<HTMLButtonElement>(`[data-tool=${name}]`).disabled = names.length > 0;
  strip.hidden = names.length === 0;
  if (strip.childElementCount !== names.length) strip.replaceChildren(...names.map(otherPhoto));
}

function showObjects(): void {
  list.replaceChildren(...state.objects.map((each) => row(each, facts(each, state.made, scene.size(each.id)), { pick, hover })));
}

function showCandidates(made: State["candidates"]): void {
  const panel = found("#candidates");
  const shown = state.objects.find(({ id }) => id === made?.object);
  panel.hidden = shown === undefined;
  if (!made || !shown) return;
  found("#candidates h3").textContent = `Candidates of ${shown.id} ${shown.label}`;
  const chooses = (index: number) => () =>
    trying(() => step({ kind: "regenerate", object: shown.id, ...made.items[index]!.choice }));
  found("#candidates div").replaceChildren(...made.items.map((each, index) => candidate(each, index, shown, chooses(index))));
}

function showProgress({ job, made, revision }: State): void {
  const running = job?.state === "running";
  const { text, bar } = progress(job, made, revision);
  const shown = found<HTMLProgressElement>("progress");
  shown.hidden = bar === null;
  if (bar !== null) [shown.value, shown.max] = [bar.value, bar.max];
  enable({ make: !running, publish: !running, archive: !running });
  found("[data-do=cancel]").hidden = !running;
  found("#making").textContent = text;
}

async function showScene(): Promise<void> {
  if (!(await scene.show(state.made))) return;
  showDistances();
  showObjects();
  mark();
}

// What a person does ---------------------------------------------------------------------------------------------------

/** Takes a step once those before it are done. */
function next(taken: () => Promise<State>): Promise<void> {
  const mine = stepping.then(async () => {
    say("");
    try {
      show(await taken());
    } catch (error) {
      await refresh();
      throw error;
    }
  });
  stepping = mine.catch(() => undefined);
  return mine;
}

const step = (made: Step): Promise<void> => next(() => take(state.revision, made));

function choose(name: ToolName): void {
  toolName = name;
  current = tool(name, bench);
  photo.pointing = current;
  photo.sketch({});
  photo.clearPaint();
  offer();
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
    aim();
  }
}

async function each(made: (id: number) => Step): Promise<void> {
  for (const id of [...selected]) await step(made(id));
}

async function rename({ id, label }: ShownObject): Promise<void> {
  const given = await asking(`What is object ${id}?`, { text: label });
  if (given !== null) await step({ kind: "rename", object: id, label: given });
}

async function regenerate({ id, seed, method }: ShownObject): Promise<void> {
  const given = await asking(`Seed for object ${id}`, { text: String(seed + 1) });
  if (given !== null) await step({ kind: "regenerate", object: id, seed: Number(given), method });
}

async function candidates(shown: ShownObject): Promise<void> {
  const generators = state.generators.map((method) => [method, `the next seeds of ${method}`] as const);
  const own = generators.filter(([method]) => method === shown.method);
  const others = generators.filter(([method]) => method !== shown.method);
  const every = [EVERY, "every generator"] as const;
  const method = await asking(`Make object ${shown.id} by`, { choices: [...own, ...others, every] });
  if (method !== null) await orderCandidates(shown.id, choices(shown, state.generators, method));
}

/** Asks for a mesh of the object, or a picture that it is made from. */
function file(kind: FileKind, object: number): void {
  const input = found<HTMLInputElement>(`#${kind}`);
  input.value = "";
  input.onchange = () => {
    const given = input.files?.[0];
    if (given) trying(() => next(() => takeFile(state.revision, kind, object, given)));
  };
  input.click();
}

/** Takes a mesh for the object, or if it has one, generates it again. */
async function mesh({ id, given_mesh }: ShownObject): Promise<void> {
  given_mesh ? await step({ kind: "mesh", object: id, mesh: null }) : file("mesh", id);
}

/** Takes a picture for the object, or if it has one, makes it from the photo again. */
async function picture({ id, given_picture }: ShownObject): Promise<void> {
  given_picture ? await step({ kind: "picture", object: id, picture: null }) : file("picture", id);
}

async function stand({ id }: ShownObject): Promise<void> {
  const others = state.objects.filter((item) => item.id !== id).map((item) => [String(item.id), `${item.id} ${item.label}`] as const);
  const surfaces = (["photo", "floor", "background", "nothing"] as const).map((on) => [on, carrier(on)] as const);
  const on = await asking(`What does object ${id} stand on?`, { choices: [...surfaces, ...others] });
  if (on !== null) await step({ kind: "support", object: id, on: (Number(on) || on) as Stand });
}

const USDZ = "usdz";

async function formats(): Promise<void> {
  const names = [USDZ, ...state.exporters];
  const chosen = await choosing("Beside GLB and USD, write", names, new Set([...(state.usdz ? [USDZ] : []), ...state.formats]));
  if (chosen === null) return;
  await step({ kind: "formats", formats: chosen.filter((name) => name !== USDZ), usdz: chosen.includes(USDZ) });
}

/** Downloads all files of the scene, once they are written. */
async function archive(): Promise<void> {
  if (!state.made?.files.length) await order("files");
  awaitsFiles = true;
  await refresh();
}

async function front(): Promise<void> {
  const [nearer, farther] = [...selected];
  await step({ kind: "order", front: nearer!, behind: farther! });
}

function showDistances(): void {
  for (const { id, distance } of state.objects) scene.setDistance(id, distance);
}

function showAway(): void {
  const object = bench.target();
  if (object !== null) scene.setDistance(object, factor());
}

async function applyAway(): Promise<void> {
  const object = bench.target();
  if (object !== null) await step({ kind: "distance", object, factor: factor() });
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

async function giveFieldOfView(): Promise<void> {
  const found = state.fov_deg ?? (state.made && fieldOfView(state.made.intrinsics));
  const degrees = await asking("Horizontal field of view in degrees", { text: found?.toFixed(1) ?? "" });
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

/** What is done with the object that is selected, if it is one only. */
function withChosen(work: (shown: ShownObject) => Promise<unknown>): () => Promise<unknown> {
  return async () => {
    const shown = chosen();
    if (shown !== null) await work(shown);
  };
}

const DOES: Record<string, () => Promise<unknown>> = {
  merge: () => step({ kind: "merge", objects: [...selected] }),
  remove: () => each((object) => ({ kind: "remove", object, shows: "unknown" })),
  background: () => each((object) => ({ kind: "remove", object, shows: "background" })),
  rename: withChosen(rename),
  again: withChosen(regenerate),
  candidates: withChosen(candidates),
  mesh: withChosen(mesh),
  picture: withChosen(picture),
  stand: withChosen(stand),
  lock: withChosen(({ id, locked }) => step({ kind: "lock", object: id, locked: !locked })),
  front,
  formats,
  nearer: () => moveAway(-STEPS_AWAY),
  farther: () => moveAway(STEPS_AWAY),
  asseen: withChosen(({ id }) => step({ kind: "distance", object: id, factor: null })),
  fov: giveFieldOfView,
  undo: () => step({ kind: "undo" }),
  redo: () => step({ kind: "redo" }),
  make: () => order("make"),
  cancel: () => order("cancel"),
  publish: () => order("publish"),
  archive,
  keys: showKeys,
  enclosed: async () => photo.fillPaint(),
  apply: applied,
  depth: async () => scene.toggleDepth(),
  view: async () => scene.showPhotoView(),
  photo: async () => scene.toggle("photo"),
  before: async () => scene.toggle("before"),
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
      mark();
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
