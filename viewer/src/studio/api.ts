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
}

export interface Job {
  state: "running" | "done" | "failed" | "cancelled";
  publishes: boolean;
  revision: number;
  stages: [string, string][];
  error: string;
}

export interface Made {
  revision: number;
  glb: { sha256: string };
  objects: { id: number; name: string; distance: number; scores: { silhouette_iou: number } }[];
  failures: { object: number | null; error: string }[];
  warnings: string[];
}

export interface State {
  name: string;
  revision: number;
  size: Place;
  original: Place;
  objects: ShownObject[];
  next_id: number;
  can_undo: boolean;
  can_redo: boolean;
  done: Edit[];
  warnings: string[];
  published: boolean;
  files: string[];
  job: Job | null;
  made: Made | null;
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
export type Edit = MadeEdit | { kind: "paint"; object: number } | { kind: "mesh"; object: number; mesh: object | null };

/** What the page asks for. */
export type Step = MadeEdit | { kind: "painted"; object: number; adds: boolean; runs: number[] } | { kind: "undo" } | { kind: "redo" };

/** What `/events` tells: enough to know whether the state has to be asked for. */
export interface News {
  revision: number;
  job: Job | null;
  made: string | null;
}

async function asked(path: string, body?: unknown): Promise<Response> {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
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
export const order = (what: "make" | "publish" | "cancel"): Promise<Response> => asked(what, {});
