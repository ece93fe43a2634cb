// The table of objects: selecting a row, copying its command.

/**
 * @param {HTMLElement} table rows with `data-object`, each with a button `.pick` and a button `.copy` beside a `code`
 * @param {(id: number | null) => void} onSelect called when the user picks a row, or lets go of it
 */
export function wireObjects(table, onSelect) {
  const rows = new Map([...table.querySelectorAll("[data-object]")].map((row) => [Number(row.dataset.object), row]));
  let selected = null;

  /** Marks the row of `id` (null for none). */
  function select(id) {
    selected = id;
    for (const [key, row] of rows) {
      row.classList.toggle("selected", key === id);
      row.querySelector(".pick").setAttribute("aria-pressed", String(key === id));
    }
  }

  for (const [id, row] of rows) {
    row.addEventListener("click", (event) => {
      if (event.target.closest(".command")) return;
      onSelect(selected === id ? null : id);
    });
    const code = row.querySelector("code");
    const copy = row.querySelector(".copy");
    if (location.protocol === "file:") code.querySelector(".folder").textContent = quotedFolder();
    copy.addEventListener("click", async () => {
      getSelection().selectAllChildren(code);
      await navigator.clipboard?.writeText(code.textContent).catch(() => undefined); // the selection is left to copy
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
  }
  return { names: new Map([...rows].map(([id, row]) => [id, row.dataset.name])), select };
}

/** The folder this page was opened from, quoted for the shell where it needs to be. */
function quotedFolder() {
  const path = decodeURIComponent(location.pathname).replace(/\/[^/]*$/, "");
  if (/^\/[A-Za-z]:/.test(path)) return `"${path.slice(1)}"`; // Windows
  return /^[\w./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}
