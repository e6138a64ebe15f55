// The post under review. Invariant: what a post holds reaches the page as text nodes only
// (textContent); nothing here builds HTML, follows a link or loads a picture. A key acts once:
// until the page has answered, the desk is locked.

const desks = new WeakMap();
const GIVE_UP_MS = 20000;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

function icon(name) {
  const made = element("span", "icon", name);
  made.setAttribute("aria-hidden", "true");
  return made;
}

function keyCap(key) {
  return element("kbd", "", key.toUpperCase());
}

function chip(className, iconName, word, title) {
  const made = element("span", `chip ${className}`);
  made.append(icon(iconName), element("span", "", word));
  if (title) made.title = title;
  return made;
}

const SEVERITY = {
  critical: ["abuse", "crisis_alert"],
  high: ["abuse", "priority_high"],
  medium: ["negative", "warning"],
  low: ["", "low_priority"],
  info: ["", "info"],
};

const ACTION_ICON = {
  allow: "check_circle",
  flag: "flag",
  review: "rate_review",
  limit: "trending_down",
  hide: "visibility_off",
  remove: "delete",
};

function head(data) {
  const made = element("header", "head");
  const [className, name] = SEVERITY[data.severity] ?? SEVERITY.info;
  made.append(chip(className, name, data.severity, "severity"));
  if (data.escalated) made.append(chip("negative", "arrow_upward", "escalated"));
  made.append(element("bdi", "author", data.post.author || "unnamed author"));
  if (data.post.source) made.append(element("bdi", "quiet source", data.post.source));
  if (data.post.language) made.append(element("span", "quiet", data.post.language.word));
  made.append(element("span", "quiet time", `waited ${data.waited}`));
  return made;
}

function markedText(data) {
  const text = element("p", `text whole${data.post.text ? "" : " empty"}`);
  text.dir = "auto";
  if (!data.post.text) {
    text.textContent = "no words, perhaps a picture";
    return text;
  }
  let at = 0;
  for (const span of data.spans) {
    if (span.start > data.post.text.length) break;
    text.append(document.createTextNode(data.post.text.slice(at, span.start)));
    const mark = element("mark", "", data.post.text.slice(span.start, span.end));
    mark.title = span.what;
    text.append(mark);
    at = span.end;
  }
  text.append(document.createTextNode(data.post.text.slice(at)));
  return text;
}

function button(state, key, word, act, className) {
  const made = element("button", className ?? "");
  made.type = "button";
  made.append(keyCap(key), element("span", "", word));
  made.onclick = act;
  made.disabled = state.busy;
  return made;
}

function words(state, data) {
  const frame = element("section", `words${state.colour ? "" : " grey"}`);
  frame.setAttribute("aria-label", "Text of the post");
  if (!state.shown) {
    const veil = element("div", "veil big");
    const why = data.post.toxicity && data.post.abusive ? `: ${data.post.toxicity.word}` : "";
    veil.append(icon("visibility_off"), element("span", "why", `The text is veiled${why}`));
    veil.append(button(state, "v", "Show", () => state.toggle("shown"), "show"));
    frame.append(veil);
  } else {
    frame.append(markedText(data));
    const row = element("div", "row");
    row.append(button(state, "v", "Veil again", () => state.toggle("shown"), "small"));
    row.append(
      button(state, "g", state.colour ? "Grey" : "Colour", () => state.toggle("colour"), "small"),
    );
    if (data.spans.length) row.append(element("span", "quiet", "marked: what the rules point at"));
    frame.append(row);
  }
  return frame;
}

function labels(data) {
  const made = element("section", "labels");
  for (const group of data.labels) {
    const box = element("div", "group");
    const title = element("h4", "", group.task);
    title.append(element("span", "answer", group.answer));
    if (group.unsupported) title.append(element("span", "quiet", "not measured on this language"));
    title.title = group.model;
    box.append(title);
    const list = element("dl", "bars");
    for (const row of group.rows) {
      const bar = element("span", "bar");
      const fill = element("i", row.over ? "top abuse" : row.top ? "top" : "");
      fill.style.width = `${Math.max(0, Math.min(1, row.score)) * 100}%`;
      bar.append(fill);
      if (row.threshold !== null) {
        const tick = element("b", "tick");
        tick.style.left = `${Math.max(0, Math.min(1, row.threshold)) * 100}%`;
        bar.append(tick);
      }
      bar.setAttribute("aria-hidden", "true");
      const figure = element("dd", row.over || row.top ? "top" : "", row.score.toFixed(2));
      if (row.threshold !== null) {
        const side = row.over ? "at or over" : "under";
        figure.append(element("span", "quiet", ` ${row.over ? "≥" : "<"} ${row.threshold.toFixed(2)}`));
        figure.title = `${side} its threshold ${row.threshold}`;
      }
      list.append(element("dt", row.over || row.top ? "top" : "", row.word), bar, figure);
    }
    box.append(list);
    made.append(box);
  }
  return made;
}

function facts(data) {
  const list = element("dl", "facts");
  for (const link of data.links) {
    list.append(element("dt", "", "Link, not followed"), element("dd", "", link));
  }
  for (const [name, value] of data.facts) {
    if (value) list.append(element("dt", "", name), element("dd", "", value));
  }
  return list;
}

function rules(data) {
  const made = element("section", "rules");
  made.append(element("h4", "", "Policy"));
  if (!data.rules.length) {
    made.append(element("p", "quiet wrap", "No rule matched: somebody put this post into the queue."));
  }
  for (const rule of data.rules) {
    const box = element("article", `rule ${rule.mode}`);
    const line = element("div", "row");
    line.append(element("strong", "", rule.id));
    line.append(chip(rule.mode === "live" ? "positive" : "doubt", rule.mode === "live" ? "bolt" : "contrast", rule.mode));
    line.append(chip("", ACTION_ICON[rule.action] ?? "gavel", rule.action));
    if (rule.score !== null) line.append(element("span", "quiet", `score ${rule.score.toFixed(2)}`));
    box.append(line);
    if (rule.description) box.append(element("p", "", rule.description));
    box.append(element("p", "quiet wrap", `${rule.reason}: ${rule.meaning}`));
    if (rule.when) box.append(element("code", "", rule.when));
    if (rule.gone) box.append(element("p", "quiet wrap", "This rule is not in the policy any more."));
    else if (rule.changed) {
      box.append(element("p", "quiet wrap", `Matched in version ${rule.version}; the text above is newer.`));
    }
    made.append(box);
  }
  for (const note of data.notes) made.append(element("p", "quiet wrap", note));
  return made;
}

function reviews(data) {
  if (!data.reviews.length) return null;
  const made = element("section", "earlier");
  made.append(element("h4", "", "What people said before"));
  for (const review of data.reviews) {
    const line = element("p", `line${review.undone ? " undone" : ""}`);
    line.append(element("span", "quiet", review.time), element("strong", "", review.who));
    line.append(element("span", "", review.reason ? `${review.said}, ${review.reason}` : review.said));
    if (review.undone) line.append(element("span", "quiet", "taken back"));
    made.append(line);
    if (review.note) made.append(element("p", "note", review.note));
  }
  return made;
}

function author(state, data) {
  const made = element("section", "history");
  const title = element("h4", "", "Same author, newest first");
  made.append(title);
  if (!data.author_posts.length) made.append(element("p", "quiet wrap", "No other post of this author is kept."));
  for (const post of data.author_posts) {
    const line = element("div", "line");
    line.append(element("span", "quiet", post.time));
    if (post.abusive) line.append(chip("abuse", "report", `${post.toxicity} ${post.score}`));
    if (post.action && post.action !== "allow") {
      line.append(chip("", ACTION_ICON[post.action] ?? "gavel", post.judged ? `${post.action}, judged` : post.action));
    }
    made.append(line);
    if (post.abusive && !state.shown) {
      made.append(element("p", "quiet wrap", "veiled with the post above"));
    } else {
      const text = element("p", `text said${state.colour ? "" : " grey"}`, post.text || "no words");
      text.dir = "auto";
      made.append(text);
    }
  }
  return made;
}

function reasonPicker(state, data) {
  const made = element("div", "picker");
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", "Reason");
  const wanted = data.actions.find((each) => each.action === state.asking);
  made.append(element("strong", "", `${wanted.word}: why?`));
  const shown = data.reasons.slice(0, 9);
  const list = element("div", "reasons");
  shown.forEach((reason, i) => {
    const pick = button(state, String(i + 1), reason.meaning || reason.code, () => state.decide(wanted.action, reason.code));
    pick.title = reason.code;
    if (i === state.picked) pick.classList.add("picked");
    list.append(pick);
  });
  const more = element("select");
  more.setAttribute("aria-label", "Another reason");
  more.append(new Option("Another reason…", ""));
  for (const reason of data.reasons.slice(9)) more.append(new Option(`${reason.code}: ${reason.meaning}`, reason.code));
  more.onchange = () => more.value && state.decide(wanted.action, more.value);
  const cancel = button(state, "esc", "Cancel", () => state.ask(null), "small");
  const row = element("div", "row");
  row.append(more, cancel, element("span", "quiet", "Enter takes the marked one"));
  made.append(list, row);
  return made;
}

function noteField(state) {
  const field = element("textarea", "noting");
  field.rows = 2;
  field.maxLength = 2000;
  field.placeholder = "A note for whoever looks at this decision later. Escape: back to the keys.";
  field.setAttribute("aria-label", "Note");
  field.value = state.note;
  field.oninput = () => {
    state.note = field.value;
  };
  field.onkeydown = (event) => {
    // Streamlit's own keys (c, r) must not see what is typed here.
    event.stopPropagation();
    if (event.key === "Escape" || (event.key === "Enter" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      state.noting = Boolean(state.note);
      field.blur();
      state.draw();
    }
  };
  field.onkeyup = field.onkeypress = (event) => event.stopPropagation();
  return field;
}

function bar(state, data) {
  const made = element("footer", "actions");
  if (state.noting) made.append(noteField(state));
  if (state.asking) made.append(reasonPicker(state, data));
  const keys = element("div", "keys");
  for (const each of data.actions) {
    const act = button(state, each.key, each.word, () => state.choose(each), `decision to-${each.action}`);
    act.setAttribute("aria-keyshortcuts", each.key);
    keys.append(act);
  }
  keys.append(element("span", "gap"));
  keys.append(button(state, "s", "Skip", () => state.send({ verb: "skip" })));
  keys.append(button(state, "e", "Escalate", () => state.send({ verb: "escalate" })));
  keys.append(button(state, "n", state.note ? "Note ✓" : "Note", () => state.startNote()));
  const undo = button(state, "u", "Undo", () => state.send({ verb: "undo" }));
  undo.disabled = state.busy || !data.undo;
  undo.title = data.undo ? `Take back: ${data.undo}` : "Nothing to take back";
  keys.append(undo);
  made.append(keys);
  const line = element("p", "status");
  line.setAttribute("role", "status");
  if (state.busy) line.textContent = "Writing to the reviews topic…";
  else if (state.late) line.textContent = "No answer yet. The same key again does no harm: it is the same review.";
  else line.textContent = `Yours while this page is open, until ${data.until} at least${data.undo ? ` · last: ${data.undo}` : ""}`;
  made.append(line);
  return made;
}

function reminder(state, data) {
  const made = element("div", "reminder");
  made.setAttribute("role", "status");
  made.append(icon("self_improvement"), element("span", "wrap", data.reminder));
  made.append(button(state, "b", "Take a break", () => state.send({ verb: "break" }), "small"));
  made.append(button(state, "t", "Not now", () => state.send({ verb: "later" }), "small"));
  return made;
}

function failure(data) {
  const made = element("div", "failure");
  made.setAttribute("role", "alert");
  made.append(icon("error"), element("span", "wrap", data.failure));
  return made;
}

function draw(state) {
  const data = state.data;
  const scrolled = state.main ? [state.main.scrollTop, state.side.scrollTop] : [0, 0];
  state.root.classList.toggle("busy", state.busy);
  state.main = element("div", "main");
  state.side = element("div", "side");
  state.side.tabIndex = 0;
  state.side.setAttribute("aria-label", "Policy and history");
  if (data.failure) state.main.append(failure(data));
  if (data.reminder) state.main.append(reminder(state, data));
  state.main.append(head(data), words(state, data), labels(data), facts(data));
  const earlier = reviews(data);
  state.side.append(rules(data));
  if (earlier) state.side.append(earlier);
  state.side.append(author(state, data));
  state.root.replaceChildren(state.main, state.side, bar(state, data));
  state.root.dataset.claim = data.claim;
  state.root.dataset.post = data.post.id;
  [state.main.scrollTop, state.side.scrollTop] = scrolled;
  fit(state);
}

// The keys stay in the window, whatever stands above the desk; on a phone they stick to its end.
function fit(state) {
  if (window.innerWidth <= 820) {
    state.root.style.height = "";
    return;
  }
  let top = 0;
  for (let at = state.root.getRootNode().host ?? state.root; at; at = at.offsetParent) top += at.offsetTop;
  state.root.style.height = `${Math.max(380, window.innerHeight - top - 16)}px`;
}

function typing(event) {
  const at = event.composedPath()[0];
  return at instanceof Element && (at.isContentEditable || at.matches("input, textarea, select"));
}

function onKey(state, event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event)) return;
  if (!state.root.isConnected) return;
  const key = event.key.toLowerCase();
  const data = state.data;
  let act = null;
  if (state.asking) {
    const wanted = state.asking;
    const shown = Math.min(data.reasons.length, 9);
    if (key >= "1" && key <= "9" && Number(key) <= shown) {
      act = () => state.decide(wanted, data.reasons[Number(key) - 1].code);
    } else if (key === "enter") act = () => state.decide(wanted, data.reasons[state.picked].code);
    else if (key === "escape") act = () => state.ask(null);
    else if (key === "arrowdown" || key === "arrowup") {
      act = () => {
        state.picked = (state.picked + (key === "arrowdown" ? 1 : shown - 1)) % shown;
        state.draw();
      };
    }
  } else {
    const onButton = event.composedPath()[0] instanceof HTMLButtonElement;
    const decision = data.actions.find((each) => each.key === key);
    if (decision) act = () => state.choose(decision);
    else if (key === "v" || (key === " " && !onButton)) act = () => state.toggle("shown");
    else if (key === "g") act = () => state.toggle("colour");
    else if (key === "s") act = () => state.send({ verb: "skip" });
    else if (key === "e") act = () => state.send({ verb: "escalate" });
    else if (key === "u" && data.undo) act = () => state.send({ verb: "undo" });
    else if (key === "n") act = () => state.startNote();
    else if (key === "b") act = () => state.send({ verb: "break" });
    else if (key === "t" && data.reminder) act = () => state.send({ verb: "later" });
  }
  if (!act) return;
  event.preventDefault();
  event.stopPropagation();
  if (!state.busy) act();
}

function newState(root) {
  const state = { root, seq: null, busy: false, late: false };
  state.fresh = () => Object.assign(state, { shown: false, colour: false, asking: null, picked: 0, noting: false, note: "", main: null });
  state.draw = () => draw(state);
  state.toggle = (what) => {
    state[what] = !state[what];
    state.draw();
  };
  state.ask = (action) => {
    state.asking = action;
    state.picked = 0;
    state.draw();
  };
  state.startNote = () => {
    state.noting = true;
    state.draw();
    state.root.querySelector(".noting").focus();
  };
  state.choose = (each) => (each.reason ? state.ask(each.action) : state.decide(each.action, null));
  state.decide = (action, reason) => state.send({ verb: "decide", action, reason });
  state.send = (what) => {
    if (state.busy) return;
    state.busy = true;
    state.late = false;
    state.asking = null;
    clearTimeout(state.timer);
    state.timer = setTimeout(() => {
      state.busy = false;
      state.late = true;
      state.draw();
    }, GIVE_UP_MS);
    state.draw();
    state.trigger({ ...what, note: state.note || null, claim: state.data.claim, n: (state.n = (state.n ?? 0) + 1) });
  };
  state.key = (event) => onKey(state, event);
  document.addEventListener("keydown", state.key, true);
  state.fit = () => fit(state);
  window.addEventListener("resize", state.fit);
  // What stands above (a warning, a longer queue) comes and goes without a word to this component.
  state.watch = setInterval(state.fit, 1000);
  state.fresh();
  return state;
}

export default function (component) {
  const root = component.parentElement.querySelector(".desk");
  if (!root || !component.data) return undefined;
  let state = desks.get(root);
  if (!state) {
    state = newState(root);
    desks.set(root, state);
  }
  const data = component.data;
  state.trigger = (what) => component.setTriggerValue("act", what);
  if (!state.data || state.data.claim !== data.claim) state.fresh();
  if (state.seq !== data.seq) {
    state.busy = false;
    state.late = false;
    clearTimeout(state.timer);
  }
  state.seq = data.seq;
  state.data = data;
  const at = root.getRootNode().activeElement;
  // Under somebody's hands nothing is drawn anew.
  if (!at || !at.matches("textarea")) state.draw();
  return () => {
    clearTimeout(state.timer);
    clearInterval(state.watch);
    window.removeEventListener("resize", state.fit);
    document.removeEventListener("keydown", state.key, true);
  };
}
