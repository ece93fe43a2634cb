// What the server answers and takes (studio/session.py).

export type Place = [number, number];

export interface ShownObject {
  id: number;
  label: string;
  sure: number | null;
  score: number;
  box: [number, number, number, number];
  area: number;
  outline: string;
  locked: boolean;
  seed: number;
  /** Of the generator. */
  method: string;
  given_mesh: boolean;
  /** Whether it is made from a picture that somebody gave. */
  given_picture: boolean;
  /** What carries it, if somebody says so. */
  stands: Stand | null;
  /** Over the one that depth says, if somebody moved it. */
  distance: number | null;
}

export interface Job {
  state: "running" | "done" | "failed" | "cancelled";
  stages: [string, string][];
  error: string;
}

export interface Made {
  revision: number;
  glb: { sha256: string };
  /** None if they are not written yet. */
  files: [string, object][];
  intrinsics: { fx: number; width: number };
  objects: { id: number; name: string; distance: number; scores: { silhouette_iou: number } }[];
  failures: { object: number | null; error: string }[];
  warnings: string[];
}

/** How an object may be made. */
export interface Choice {
  seed: number;
  method: string | null;
}

export interface Candidates {
  object: number;
  items: { choice: Choice; backend: string; picture: { sha256: string } | null; error: string }[];
}

export interface State {
  name: string;
  revision: number;
  /** Names of the other photos of the scene. */
  others: string[];
  size: Place;
  original: Place;
  objects: ShownObject[];
  next_id: number;
  can_undo: boolean;
  can_redo: boolean;
  done: Edit[];
  warnings: string[];
  published: boolean;
  generators: string[];
  exporters: string[];
  formats: string[];
  usdz: boolean;
  fov_deg: number | null;
  job: Job | null;
  made: Made | null;
  candidates: Candidates | null;
}

export interface Prompt {
  object: number;
  inside: Place[];
  outside: Place[];
  box: [number, number, number, number] | null;
}

export interface Answer {
  label: string;
  area: number;
  outline: string;
}

export interface Length {
  start: Place;
  end: Place;
  metres: number;
}

/** What carries an object; `photo` for what the photo suggests. */
export type Stand = number | "floor" | "background" | "nothing" | "photo";

export type MadeEdit =
  | ({ kind: "prompt" } & Prompt)
  | { kind: "fill"; object: number; at: Place | null }
  | { kind: "merge"; objects: number[] }
  | { kind: "split"; object: number; part: number; start: Place; end: Place }
  | { kind: "remove"; object: number; shows: "background" | "unknown" }
  | { kind: "rename"; object: number; label: string }
  | { kind: "lock"; object: number; locked: boolean }
  | { kind: "field_of_view"; degrees: number }
  | ({ kind: "length" } & Length)
  | { kind: "lengths"; first: Length; second: Length }
  | { kind: "vertical" | "horizon"; start: Place; end: Place }
  | { kind: "floor"; at: Place }
  | { kind: "support"; object: number; on: Stand }
  | { kind: "order"; front: number; behind: number }
  | { kind: "distance"; object: number; factor: number | null }
  | { kind: "regenerate"; object: number; seed: number; method?: string | null }
  | { kind: "formats"; formats: string[]; usdz: boolean };

/** An edit as the server lists it. */
export type Edit =
  | MadeEdit
  | { kind: "paint"; object: number }
  | { kind: "mesh"; object: number; mesh: object | null }
  | { kind: "picture"; object: number; picture: object | null };

/** What the page asks for. */
export type Step =
  | MadeEdit
  | { kind: "painted"; object: number; adds: boolean; runs: number[] }
  | { kind: "mesh"; object: number; mesh: null }
  | { kind: "picture"; object: number; picture: null }
  | { kind: "undo" | "redo" };

/** What a file may be of an object. */
export type FileKind = "mesh" | "picture";
const PATHS: Record<FileKind, string> = { mesh: "meshes", picture: "pictures" };

/** What `/events` tells: enough to know whether the state has to be asked for. */
export interface News {
  revision: number;
  job: Job | null;
  made: string | null;
}

async function asked(path: string, body?: unknown): Promise<Response> {
  const raw = body instanceof Blob;
  const headers = { "Content-Type": raw ? "application/octet-stream" : "application/json" };
  const post = { method: "POST", headers, body: raw ? body : JSON.stringify(body) };
  const response = await fetch(path, body === undefined ? undefined : post);
  if (response.ok) return response;
  const text = await response.text();
  let said = text;
  if (response.headers.get("Content-Type") === "application/json") said = JSON.parse(text).error;
  throw new Error(said);
}

export const getState = async (): Promise<State> => (await asked("state")).json();
export const getScene = async (): Promise<ArrayBuffer> => (await asked("scene.glb")).arrayBuffer();
export const answer = async (prompt: Prompt): Promise<Answer> => (await asked("answer", prompt)).json();
export const take = async (revision: number, step: Step): Promise<State> =>
  (await asked("steps", { revision, step })).json();
export const takeFile = async (revision: number, kind: FileKind, object: number, file: Blob): Promise<State> =>
  (await asked(`${PATHS[kind]}/${object}?revision=${revision}`, file)).json();
export const orderCandidates = (object: number, choices: Choice[]): Promise<Response> => asked("candidates", { object, choices });
export const order = (what: "make" | "files" | "publish" | "cancel"): Promise<Response> => asked(what, {});
