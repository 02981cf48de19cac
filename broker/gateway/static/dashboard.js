// What a page does beyond links and forms. Without scripts it reads and acts as well.
import "./live.js";
import "./acts.js";
import "./keys.js";

document.documentElement.classList.add("scripted");
