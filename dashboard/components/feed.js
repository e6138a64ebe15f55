// The feed and the details of one post. Invariant: what a post holds reaches the page as text
// nodes only (textContent); nothing here builds HTML, follows a link or loads a picture.

const feeds = new WeakMap();

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function icon(name) {
  const made = element("span", "icon", name);
  made.setAttribute("aria-hidden", "true");
  return made;
}

function chip(className, iconName, word, number, title) {
  const made = element("span", `chip ${className}`);
  made.append(icon(iconName), element("span", "", word));
  if (number) made.append(element("span", "n", number));
  if (title) made.title = title;
  return made;
}

function chips(post) {
  const made = element("div", "chips");
  if (post.toxicity) {
    made.append(
      post.abusive
        ? chip("abuse", "report", post.toxicity.word, post.toxicity.score, "toxicity, highest score")
        : chip("", "check_circle", post.toxicity.word, post.toxicity.score, "toxicity, highest score"),
    );
  }
  if (post.sentiment) {
    const icons = { positive: "sentiment_satisfied", negative: "sentiment_dissatisfied" };
    const known = post.sentiment.label in icons ? post.sentiment.label : "";
    made.append(
      chip(known, icons[known] ?? "sentiment_neutral", post.sentiment.word, post.sentiment.score, "sentiment"),
    );
  }
  if (post.language) {
    made.append(chip("", "translate", post.language.word, post.language.score, "language"));
  }
  if (post.doubt) made.append(chip("doubt", "help", "not measured", "", post.doubt));
  return made;
}

function body(post, shown, whole, toggle) {
  if (post.veil && !shown) {
    const veil = element("div", "veil");
    const button = element("button", "", "Show");
    button.type = "button";
    button.setAttribute("aria-label", `Show the hidden post by ${post.author || "an unnamed author"}`);
    button.onclick = (event) => {
      event.stopPropagation();
      toggle();
    };
    veil.append(icon("visibility_off"), element("span", "why", `Hidden: ${post.veil}`), button);
    return veil;
  }
  const text = element("p", `text${whole ? " whole" : ""}${post.text ? "" : " empty"}`);
  text.dir = "auto";
  text.textContent = post.text || post.nothing || "no words, perhaps a picture";
  if (!post.veil) return text;
  const both = element("div");
  const button = element("button", "", "Hide again");
  button.type = "button";
  button.onclick = (event) => {
    event.stopPropagation();
    toggle();
  };
  both.append(text, button);
  both.style.cssText = "display:grid;gap:.35rem;justify-items:start;min-width:0";
  return both;
}

function head(post) {
  const made = element("div", "head");
  const author = element("bdi", "author", post.author || "unnamed author");
  made.append(author);
  if (post.source) made.append(element("bdi", "quiet source", post.source));
  const time = element("time", "quiet time", post.time);
  time.dateTime = post.at;
  time.title = post.at;
  made.append(time);
  return made;
}

function card(state, post) {
  const made = element("li", `post${post.abusive ? " abusive" : ""}`);
  const draw = () => {
    const details = element("button", "plain");
    details.type = "button";
    details.title = "Details";
    details.setAttribute("aria-label", `Details of the post by ${post.author || "an unnamed author"}`);
    details.append(icon("open_in_full"));
    const first = head(post);
    first.append(details);
    made.replaceChildren(
      first,
      body(post, state.shown.has(post.id), false, () => {
        if (!state.shown.delete(post.id)) state.shown.add(post.id);
        draw();
      }),
      chips(post),
    );
  };
  made.dataset.post = post.id;
  made.onclick = () => {
    if (String(window.getSelection()) === "") state.open(post.id);
  };
  draw();
  return made;
}

function drawFeed(state, data) {
  state.drawn = data;
  const known = state.cards;
  const next = new Map();
  for (const post of data.posts) {
    const version = JSON.stringify(post);
    const held = known.get(post.id);
    if (held && held.version === version) {
      next.set(post.id, held);
    } else {
      const made = card(state, post);
      if (known.size && !held) made.classList.add("fresh");
      next.set(post.id, { version, card: made });
    }
  }
  state.cards = next;
  const cards = [...next.values()].map((entry) => entry.card);
  // Only what moved is touched, so that focus and selection survive an update.
  const old = [...state.list.children];
  if (old.length !== cards.length || old.some((child, i) => child !== cards[i])) {
    const wanted = new Set(cards);
    for (const child of old) if (!wanted.has(child)) child.remove();
    cards.forEach((made, i) => {
      if (state.list.children[i] !== made) state.list.insertBefore(made, state.list.children[i] ?? null);
    });
  }
  state.nothing.hidden = data.posts.length > 0;
  state.nothingText.textContent = data.nothing;
  state.button.hidden = true;
}

function feed(component, root) {
  const { data, setTriggerValue } = component;
  let state = feeds.get(root);
  if (!state) {
    const scroll = element("div", "scroll");
    scroll.tabIndex = -1;
    const list = element("ul", "list");
    list.setAttribute("aria-label", "Recent posts, newest first");
    const nothing = element("div", "nothing");
    const nothingText = element("span", "quiet");
    nothingText.style.whiteSpace = "normal";
    nothing.append(icon("inbox"), nothingText);
    const button = element("button", "new");
    button.type = "button";
    button.hidden = true;
    scroll.append(list, nothing);
    root.replaceChildren(button, scroll);
    state = { root, scroll, list, nothing, nothingText, button, cards: new Map(), shown: new Set(), over: false };
    scroll.onpointerenter = (event) => {
      state.over = event.pointerType === "mouse";
    };
    scroll.onpointerleave = () => {
      state.over = false;
    };
    feeds.set(root, state);
  }
  state.open = (id) => setTriggerValue("open", id);
  state.scroll.style.maxHeight = data.height ? `${data.height}px` : "none";
  state.scroll.style.minHeight = data.height ? `${data.height}px` : "0";
  const fresh = data.posts.filter((post) => !state.cards.has(post.id)).length;
  // Under somebody's eyes or pointer the list holds still; a filter's answer comes at once.
  const reading = state.scroll.scrollTop > 24 || state.over;
  if (reading && fresh > 0 && state.drawn && state.drawn.filter === data.filter) {
    state.button.textContent = fresh === 1 ? "1 new post" : `${fresh} new posts`;
    state.button.hidden = false;
    state.button.onclick = () => {
      drawFeed(state, data);
      state.scroll.scrollTop = 0;
    };
    return;
  }
  drawFeed(state, data);
}

function bars(title, note, rows) {
  const made = element("section");
  const heading = element("h4", "", title);
  if (note) heading.append(element("span", "quiet", note));
  const list = element("dl", "bars");
  for (const row of rows) {
    const bar = element("span", "bar");
    const fill = element("i", row.top ? (row.abuse ? "top abuse" : "top") : "");
    fill.style.width = `${Math.max(0, Math.min(1, row.score)) * 100}%`;
    bar.append(fill);
    const shown = element("dd", row.top ? "top" : "", row.shown);
    if (row.threshold !== undefined && row.threshold !== null) {
      const mark = element("b");
      mark.style.left = `${Math.max(0, Math.min(1, row.threshold)) * 100}%`;
      bar.append(mark);
      shown.title = `threshold ${row.threshold.toFixed(3)}`;
      shown.append(element("span", "limit", `${row.score >= row.threshold ? "≥" : "<"} ${row.threshold.toFixed(2)}`));
    }
    bar.setAttribute("aria-hidden", "true");
    list.append(element("dt", row.top ? "top" : "", row.word), bar, shown);
  }
  made.append(heading, list);
  return made;
}

function details(component, root) {
  const { data } = component;
  let state = feeds.get(root);
  if (!state) {
    state = { shown: new Set() };
    feeds.set(root, state);
  }
  const post = data.post;
  const draw = () => {
    const toggle = () => {
      if (!state.shown.delete(post.id)) state.shown.add(post.id);
      draw();
    };
    root.replaceChildren(
      head(post),
      body(post, state.shown.has(post.id), true, toggle),
      ...data.groups.map((group) => bars(group.title, group.note, group.rows)),
      ...data.sections.flatMap(({ title, facts }) => {
        const list = element("dl", "facts");
        for (const [name, value] of facts) list.append(element("dt", "", name), element("dd", "", value));
        return [element("h4", "", title), list];
      }),
    );
  };
  draw();
}

// The text with the parts that drove a label marked; how strong a mark is, its title says in numbers.
function why(component, root) {
  root.replaceChildren(
    ...component.data.explanations.map((found) => {
      const made = element("section", "driven");
      const heading = element("h4", "", found.title);
      heading.append(element("span", "quiet", found.note));
      const text = element("p", "text whole");
      text.dir = "auto";
      for (const part of found.parts) {
        if (!part.way) {
          text.append(document.createTextNode(part.text));
          continue;
        }
        const mark = element("mark", part.way, part.text);
        mark.style.setProperty("--strength", `${Math.round(part.strength * 100)}%`);
        mark.title = part.title;
        text.append(mark);
      }
      made.append(heading, text, element("p", "quiet told", found.told));
      return made;
    }),
  );
}

export default function (component) {
  const root = component.parentElement.querySelector(".feed");
  if (!root || !component.data) return;
  if (component.data.kind === "details") details(component, root);
  else if (component.data.kind === "why") why(component, root);
  else feed(component, root);
}
