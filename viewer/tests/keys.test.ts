/// <reference types="vite/client" />
import { expect, test } from "vitest";
import page from "../../studio/page/index.html?raw";
import { shortcut, spoken } from "../src/studio/keys.js";
import { TOOLS } from "../src/studio/tools.js";

const buttons = [...page.matchAll(/<button[^>]*data-do="(\w+)"[^>]*>/g)].map(([tag, name]) => ({
  name: name!,
  keys: /aria-keyshortcuts="([^"]*)"/.exec(tag)?.[1]?.split(" ") ?? [],
  title: /title="([^"]*)"/.exec(tag)?.[1] ?? "",
}));
const pressed = (key: string, held: Partial<Record<"ctrlKey" | "metaKey" | "shiftKey", boolean>> = {}) =>
  shortcut({ key, ctrlKey: false, metaKey: false, shiftKey: false, ...held });

test("a pressed key is written as the page writes it", () => {
  expect(pressed("m")).toBe("M");
  expect(pressed("F", { shiftKey: true })).toBe("Shift+F");
  expect(pressed("z", { ctrlKey: true })).toBe("Control+Z");
  expect(pressed("Z", { metaKey: true, shiftKey: true })).toBe("Control+Shift+Z");
  expect(pressed("?", { shiftKey: true })).toBe("?");
  expect(pressed("Delete")).toBe("Delete");
  expect(pressed(" ")).toBe("Space");
});

test("every button has a key, no two have the same, and its title names it", () => {
  expect(buttons.length).toBeGreaterThan(15);
  for (const { name, keys, title } of buttons) {
    expect(keys, name).not.toHaveLength(0);
    expect(title, name).toContain(`(${spoken(keys.join(" "))})`);
  }
  const all = [...buttons.flatMap(({ keys }) => keys), ...Object.values(TOOLS).flatMap(({ key }) => key.split(" "))];
  expect(new Set(all).size).toBe(all.length);
});
