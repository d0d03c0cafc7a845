"use strict";
// Before anything is drawn: with scripts, cards open on a click instead of standing below the list.
document.documentElement.classList.add("js");
