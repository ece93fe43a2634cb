// The elements of the page.

/** The element that a selector names. The page has all that its script asks for. */
export function found<E extends Element = HTMLElement>(selector: string): E {
  const element = document.querySelector<E>(selector);
  if (element === null) throw new Error(`the page lacks ${selector}`);
  return element;
}

/** Enables or disables buttons, by what they do. */
export function enable(buttons: Record<string, boolean>): void {
  for (const [name, on] of Object.entries(buttons)) found<HTMLButtonElement>(`[data-do=${name}]`).disabled = !on;
}

/** Shows whether a button is pressed, by what it does. */
export function press(name: string, on: boolean): void {
  found(`[data-do=${name}]`).setAttribute("aria-pressed", String(on));
}
