// Forms that act on a fetch stay on the page; aborting asks in a dialog; copying.
import { announce, refresh } from "./live.js";

const question = document.getElementById("question");
let answered = () => {};

async function act(address, fields) {
  const response = await fetch(address, { method: "POST", body: fields });
  if (!response.ok) {
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    announce(page.querySelector("main")?.innerText.trim() || "That was refused");
    location.assign(location.href);
    return;
  }
  const clicked = new URL(response.url).searchParams.get("clicked");
  if (clicked && document.body.dataset.live === "fetch") {
    const here = new URL(location.href);
    here.searchParams.set("clicked", clicked);
    history.replaceState(null, "", here);
  }
  refresh(address.split("/").at(-2));
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-act]");
  if (!form) return;
  event.preventDefault();
  act(form.getAttribute("action"), new FormData(form));
});

document.addEventListener("click", (event) => {
  const abort = event.target.closest("a[data-abort]");
  if (!abort || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  document.getElementById("question-text").textContent =
    `“${abort.dataset.abort}” is aborted for good: nothing more is fetched.`;
  answered = () => act(abort.getAttribute("href"), new FormData());
  question.showModal();
});
document.getElementById("question-yes").addEventListener("click", () => {
  question.close();
  answered();
});
document.getElementById("question-no").addEventListener("click", () => question.close());

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.previousElementSibling.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages on plain HTTP have no clipboard.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => (button.textContent = "Copy"), 2000);
});
