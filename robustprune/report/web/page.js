"use strict";
// Sorting, copying, and opening what a link or a printer needs. Without this script the page reads all the same.

const say = (text) => {
  const status = document.getElementById("status");
  status.textContent = "";
  requestAnimationFrame(() => { status.textContent = text; });
};

/* Sorting: every heading of a sortable table becomes a button. */

const keyOf = (row, column) => {
  const cell = row.cells[column];
  const key = cell.dataset.sort ?? cell.textContent.trim();
  const number = Number(key);
  return key !== "" && !Number.isNaN(number) ? number : key;
};

const compare = (a, b) => {
  // Cells without a value come last, whichever way is sorted.
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
};

const sortBy = (table, heading) => {
  const column = heading.cellIndex;
  const upwards = heading.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [keyOf(row, column), row]);
  const isEmpty = (key) => key === "" || key === "–";
  keyed.sort(([a], [b]) => {
    if (isEmpty(a) || isEmpty(b)) return isEmpty(a) - isEmpty(b);
    return upwards ? compare(a, b) : compare(b, a);
  });
  body.append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  say(`Sorted by ${heading.textContent.trim()}, ${upwards ? "ascending" : "descending"}`);
};

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, heading));
  }
}

/* Copying: by the clipboard's interface, or the way that also works in files where that is not allowed. */

const copyBySelection = (text) => {
  const field = document.createElement("textarea");
  field.value = text;
  field.setAttribute("readonly", "");
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
};

const copy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy button");
  if (!button) return;
  const group = button.closest(".copy");
  const texts = JSON.parse(document.getElementById(group.dataset.payload).textContent);
  const done = await copy(texts[button.dataset.format]);
  button.focus();
  say(done ? `Copied as ${button.dataset.format}` : "The browser did not allow copying");
  if (!done) return;
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 1500);
});

/* Details: those that a link leads to are opened, all but long data for the printer. */

const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let each = target; each; each = each.parentElement) if (each.tagName === "DETAILS") each.open = true;
  target.scrollIntoView();
};

document.addEventListener("click", (event) => {
  const link = event.target.closest("[popover] a");
  if (link) link.closest("[popover]").hidePopover();
});
addEventListener("hashchange", reveal);
reveal();

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open]):not(.long)")];
  for (const each of opened) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of opened) each.open = false;
});
