// The page's dialog, which asks for one thing.

/** What may be answered: a text, with one to begin with, or one of several values, each with its name. */
export type Answers = { text: string } | { choices: readonly (readonly [string, string])[] };

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
  dialog.returnValue = "";
  dialog.showModal();
  texts ? input.select() : select.focus();
  return new Promise((done) => {
    const given = () => (texts ? input.value.trim() : select.value) || null;
    dialog.addEventListener("close", () => done(dialog.returnValue === "ok" ? given() : null), { once: true });
  });
}
