// What a page can do beyond reading and forms. Without this file it works, too.
"use strict";
