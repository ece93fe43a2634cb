// Lines and buttons of the page's lists.

import type { Candidates, ShownObject } from "./api.js";
import { colour } from "./photo.js";

/** A remark, or an edit in words. */
export function line(text: string): HTMLLIElement {
  const made = document.createElement("li");
  made.textContent = text;
  return made;
}

/** A file of the scene that is shown. */
export function link(name: string): HTMLLIElement {
  const made = document.createElement("li");
  const anchor = document.createElement("a");
  anchor.href = `made/${encodeURIComponent(name)}`;
  anchor.download = name;
  anchor.textContent = name;
  made.append(anchor);
  return made;
}

/** Another photo of the scene, by its number. */
export function otherPhoto(name: string, number: number): HTMLElement {
  const made = document.createElement("figure");
  const image = document.createElement("img");
  const caption = document.createElement("figcaption");
  image.src = `photos/${number}.png`;
  image.alt = "";
  image.loading = "lazy";
  caption.textContent = name;
  made.append(image, caption);
  return made;
}

/** What a line of the list of objects calls. */
export interface Row {
  pick(id: number, more: boolean): void;
  hover(id: number | null): void;
}

/** An object, and what is known of it. */
export function row({ id, label }: ShownObject, facts: string, calls: Row): HTMLLIElement {
  const made = document.createElement("li");
  made.dataset.id = String(id);
  made.style.setProperty("--colour", colour(id));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = `${id} ${label}`;
  button.addEventListener("click", (event) => calls.pick(id, event.shiftKey || event.ctrlKey || event.metaKey));
  const note = document.createElement("span");
  note.className = "note";
  note.textContent = facts;
  made.append(button, note);
  made.addEventListener("pointerenter", () => calls.hover(id));
  made.addEventListener("pointerleave", () => calls.hover(null));
  button.addEventListener("focus", () => calls.hover(id));
  button.addEventListener("blur", () => calls.hover(null));
  return made;
}

/** A candidate of an object, with its picture: pressed if the object is made like it. */
export function candidate(
  { choice, picture, error }: Candidates["items"][number],
  number: number,
  { seed, method }: ShownObject,
  choose: () => void,
): HTMLButtonElement {
  const made = document.createElement("button");
  const name = `seed ${choice.seed}${choice.method ? `, ${choice.method}` : ""}`;
  made.type = "button";
  made.disabled = picture === null;
  made.title = error;
  if (picture !== null) {
    const image = document.createElement("img");
    image.alt = "";
    image.src = `thumbnails/${number}.png?${picture.sha256}`;
    made.append(image);
  }
  made.append(picture === null ? `${name}: failed` : name);
  made.setAttribute("aria-pressed", String(choice.seed === seed && (choice.method ?? method) === method));
  made.addEventListener("click", choose);
  return made;
}
