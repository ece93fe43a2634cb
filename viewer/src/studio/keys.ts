// The keyboard: a key presses the button whose `aria-keyshortcuts` names it. The page is the only list of keys.

export interface Pressed {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  shiftKey: boolean;
}

/** A pressed key as `aria-keyshortcuts` writes it. Command counts as Control, and Shift only where it makes no other character. */
export function shortcut({ key, ctrlKey, metaKey, shiftKey }: Pressed): string {
  const letter = key.toLowerCase() !== key.toUpperCase() || key.length > 1;
  const named = key === " " ? "Space" : key.length === 1 ? key.toUpperCase() : key;
  return [ctrlKey || metaKey ? "Control" : "", shiftKey && letter ? "Shift" : "", named].filter(Boolean).join("+");
}

/** As a person reads it. */
export const spoken = (shortcuts: string): string => shortcuts.split(" ")[0]!.replace("Control", "Ctrl");
