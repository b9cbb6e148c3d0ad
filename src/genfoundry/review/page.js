"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const served = location.protocol === "http:" || location.protocol === "https:";
  const total = data.items.length;
  const known = new Set(data.items.map((item) => item[0]));
  let alias = "", state = null, position = 0, shownAt = 0, sending = false, warned = "";

  const fresh = () => ({ answers: {}, history: [], unsent: [] });
  const place = () => "genfoundry-review:" + data.plan + ":" + alias;

  function remember() {
    try { localStorage.setItem(place(), JSON.stringify(state)); warned = ""; }
    catch { warned = "this browser keeps nothing: download before you leave"; }
  }

  function recall() {
    try {
      const found = JSON.parse(localStorage.getItem(place()) || "null");
      if (!found) return fresh();
      const history = found.history.filter((id) => known.has(id) && found.answers[id]);
      const answers = Object.fromEntries(history.map((id) => [id, found.answers[id]]));
      return { answers, history, unsent: found.unsent || [] };
    } catch { return fresh(); }
  }

  function only(id) {
    for (const name of ["start", "ask", "end"]) $(name).hidden = name !== id;
  }

  function sample(side, content) {
    const box = $(side).querySelector(".sample");
    const name = side === "left" ? "A" : "B";
    if (data.kind === "picture") {
      const picture = new Image();
      picture.alt = "picture " + name;
      picture.addEventListener("load", () => {
        picture.classList.toggle("small", picture.naturalHeight <= 128);
        // A tiny picture drawn huge is a pattern of squares: the eye reads it better at a moderate size.
        picture.style.maxWidth = Math.max(24 * picture.naturalWidth, 160) + "px";
      });
      picture.src = content;
      box.replaceChildren(picture);
    } else if (data.kind === "text") {
      const text = document.createElement("pre");
      text.textContent = content;
      text.tabIndex = 0;
      text.setAttribute("role", "group");
      text.setAttribute("aria-label", "text " + name);
      box.replaceChildren(text);
    } else {
      const player = document.createElement(data.kind === "sound" ? "audio" : "video");
      player.controls = true;
      player.setAttribute("aria-label", data.kind + " " + name);
      player.src = content;
      box.replaceChildren(player);
    }
  }

  function mark(choice) {
    for (const side of ["left", "right", "tie"]) {
      $("choose-" + side).classList.toggle("chosen", side === choice);
      if (side !== "tie") $(side).classList.toggle("chosen", side === choice);
    }
  }

  function status() {
    const done = state.history.length;
    $("count").textContent = Math.min(position + 1, total) + " of " + total;
    $("bar").setAttribute("aria-valuenow", done);
    $("bar").firstElementChild.style.width = (100 * done) / total + "%";
    const waiting = state.unsent.length;
    let state = served ? "" : "kept in this browser only";
    if (served && waiting) state = waiting + (waiting === 1 ? " answer" : " answers") + " not at the server yet";
    else if (served && done) state = "saved";
    $("saved").textContent = warned || state;
    $("saved").classList.toggle("bad", Boolean(warned) || (served && waiting > 1));
    $("undo").disabled = !done;
    $("state").textContent = served && !waiting
      ? "All " + done + " answers are saved; you may close this page."
      : "Please download your " + done + " answers and send the file to whoever asked you.";
  }

  function show(previous) {
    if (position >= total) {
      only("end");
      status();
      $("end").querySelector("h1").focus();
      return;
    }
    only("ask");
    const [, left, right, label] = data.items[position];
    sample("left", data.contents[left]);
    sample("right", data.contents[right]);
    $("label").replaceChildren();
    if (label !== null) {
      const name = document.createElement("b");
      name.textContent = label;
      $("label").append("Wanted: ", name);
    }
    mark(previous || "");
    status();
    $("question").focus({ preventScroll: true });
    scrollTo(0, 0);
    shownAt = performance.now();
  }

  function next() {
    position = data.items.findIndex((item) => !(item[0] in state.answers));
    if (position < 0) position = total;
    show();
  }

  function record(item, choice, seconds) {
    if (served) state.unsent.push({ plan: data.plan, rater: alias, item, choice, seconds });
    remember();
    send();
  }

  function choose(choice) {
    if ($("ask").hidden) return;
    const item = data.items[position][0];
    const seconds = Math.round((performance.now() - shownAt) / 100) / 10;
    state.answers[item] = { choice, seconds };
    state.history.push(item);
    record(item, choice, seconds);
    next();
  }

  function undo() {
    const item = state.history.pop();
    if (item === undefined) return;
    const before = state.answers[item].choice;
    delete state.answers[item];
    record(item, "undo", 0);
    position = data.items.findIndex((entry) => entry[0] === item);
    show(before);
  }

  async function send() {
    if (sending || !served) return;
    sending = true;
    try {
      while (state.unsent.length) {
        const answer = await fetch("answer", {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(state.unsent[0]),
        });
        if (!answer.ok) break;
        state.unsent.shift();
        remember();
      }
    } catch { /* offline: the answers wait, and the status line says so */ }
    sending = false;
    status();
  }

  function download() {
    const answers = state.history.map((item) => ({ item, ...state.answers[item] }));
    const text = JSON.stringify({ format: 1, plan: data.plan, rater: alias, answers }, null, 1) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "answers-" + data.plan.slice(0, 8) + "-" + alias.replace(/[^A-Za-z0-9_-]/g, "_") + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  const keys = { ArrowLeft: "left", 1: "left", ArrowRight: "right", 2: "right", 0: "tie", 3: "tie" };
  if (data.kind !== "text") keys.ArrowDown = "tie";
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !$("start").hidden) return;
    if (event.key === "Backspace") { event.preventDefault(); undo(); return; }
    if (event.key in keys) { event.preventDefault(); choose(keys[event.key]); }
  });
  for (const side of ["left", "right", "tie"]) $("choose-" + side).addEventListener("click", () => choose(side));
  if (data.kind === "picture") {
    for (const side of ["left", "right"]) $(side).addEventListener("click", () => choose(side));
  }
  for (const id of ["undo", "undo-end"]) $(id).addEventListener("click", undo);
  for (const id of ["save", "save-end"]) $(id).addEventListener("click", download);
  addEventListener("online", () => state && send());

  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    alias = $("alias").value.trim();
    state = recall();
    remember();
    send();
    next();
  });
  only("start");
  $("alias").focus();
})();
