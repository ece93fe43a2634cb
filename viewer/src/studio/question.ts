// The page's dialogs, which ask for one thing or for several.

import { found } from "./elements.js";

/** What may be answered: a text, with one to begin with, or one of several values, each with its name. */
export type Answers = { text: string } | { choices: readonly (readonly [string, string])[] };

/** Shows a dialog; what is answered once it is closed by its first button, else null. */
function closed<Answer>(dialog: HTMLDialogElement, answered: () => Answer): Promise<Answer | null> {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener("close", () => done(dialog.returnValue === "ok" ? answered() : null), { once: true });
  });
}

/** Asks which of several things shall be, those that are `on` to begin with; null if that was not given. */
export function choosing(question: string, names: readonly string[], on: ReadonlySet<string>): Promise<string[] | null> {
  const dialog = found<HTMLDialogElement>("#choice");
  const legend = found("#choice legend");
  legend.textContent = question;
  const boxes = names.map((name) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    box.checked = on.has(name);
    label.append(box, ` ${name}`);
    return label;
  });
  found("#choice fieldset").replaceChildren(legend, ...boxes);
  return closed(dialog, () => [...dialog.querySelectorAll<HTMLInputElement>("input:checked")].map((box) => box.value));
}

/** Asks; null if nothing was given. */
export async function asking(question: string, answers: Answers): Promise<string | null> {
  const dialog = found<HTMLDialogElement>("#question");
  const input = found<HTMLInputElement>("#question input");
  const select = found<HTMLSelectElement>("#question select");
  const texts = "text" in answers;
  found("#question label span").textContent = question;
  [input.hidden, select.hidden] = [!texts, texts];
  if (texts) input.value = answers.text;
  else select.replaceChildren(...answers.choices.map(([value, name]) => new Option(name, value)));
  // Enter in a text sends the form; in a list it does nothing by itself.
  select.onkeydown = (event) => event.key === "Enter" && found<HTMLFormElement>("#question form").requestSubmit(found("#question button"));
  const answer = closed(dialog, () => (texts ? input.value.trim() : select.value) || null);
  texts ? input.select() : select.focus();
  return answer;
}
