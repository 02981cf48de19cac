// The keyboard: / filter, j and k move, Enter opens, a aborts, ? helps.

const help = document.getElementById("help");
const helpButton = document.getElementById("help-button");
helpButton.hidden = false;
helpButton.addEventListener("click", () => help.showModal());

function move(by) {
  const links = [...document.querySelectorAll(".row h2 a")];
  const row = document.activeElement?.closest(".row");
  const at = links.findIndex((link) => link.closest(".row") === row);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
  next?.focus();
  next?.closest(".row").scrollIntoView({ block: "nearest" });
}

function abort() {
  const place = document.activeElement?.closest(".row") ?? document.querySelector(".card");
  place?.querySelector("a[data-abort]")?.click();
}

const KEYS = {
  "/": () => document.getElementById("filter")?.focus(),
  "?": () => help.showModal(),
  a: abort,
  j: () => move(1),
  k: () => move(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  const does = KEYS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});
