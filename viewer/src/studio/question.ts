// The page's dialogs, which ask for one thing or for several.

/** What may be answered: a text, with one to begin with, or one of several values, each with its name. */
export type Answers = { text: string } | { choices: readonly (readonly [string, string])[] };

/** Asks which of several things shall be, those that are `on` to begin with; null if that was not given. */
export function choosing(question: string, names: readonly string[], on: ReadonlySet<string>): Promise<string[] | null> {
  const dialog = document.querySelector<HTMLDialogElement>("#choice")!;
  dialog.querySelector("legend")!.textContent = question;
  const boxes = names.map((name) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    box.checked = on.has(name);
    label.append(box, ` ${name}`);
    return label;
  });
  dialog.querySelector("fieldset")!.replaceChildren(dialog.querySelector("legend")!, ...boxes);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    const given = () => [...dialog.querySelectorAll<HTMLInputElement>("input:checked")].map((box) => box.value);
    dialog.addEventListener("close", () => done(dialog.returnValue === "ok" ? given() : null), { once: true });
  });
}

/** Asks; null if nothing was given. */
export function asking(question: string, answers: Answers): Promise<string | null> {
  const dialog = document.querySelector<HTMLDialogElement>("#question")!;
  const input = dialog.querySelector("input")!;
  const select = dialog.querySelector("select")!;
  const texts = "text" in answers;
  dialog.querySelector("label span")!.textContent = question;
  [input.hidden, select.hidden] = [!texts, texts];
  if (texts) input.value = answers.text;
  else select.replaceChildren(...answers.choices.map(([value, name]) => new Option(name, value)));
  // Enter in a text sends the form; in a list it does nothing by itself.
  select.onkeydown = (event) => event.key === "Enter" && dialog.querySelector("form")!.requestSubmit(dialog.querySelector("button"));
  dialog.returnValue = "";
  dialog.showModal();
  texts ? input.select() : select.focus();
  return new Promise((done) => {
    const given = () => (texts ? input.value.trim() : select.value) || null;
    dialog.addEventListener("close", () => done(dialog.returnValue === "ok" ? given() : null), { once: true });
  });
}
