// A text with line numbers, for rules. Invariant: what is typed is sent when the hands rest, and
// what Python sends back never moves the cursor: it replaces the text only as another document.

const editors = new WeakMap();
const REST_MS = 350;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function number(state) {
  const lines = state.area.value.split("\n").length;
  const wrong = new Set(state.wrong);
  state.gutter.replaceChildren(
    ...Array.from({ length: lines }, (_, i) => {
      const at = i + state.first;
      return element("span", wrong.has(at) ? "wrong" : "", wrong.has(at) ? `▸ ${at}` : String(at));
    }),
  );
  state.gutter.scrollTop = state.area.scrollTop;
}

function build(root) {
  const gutter = element("div", "gutter");
  gutter.setAttribute("aria-hidden", "true");
  const area = element("textarea", "text");
  area.spellcheck = false;
  area.wrap = "off";
  area.setAttribute("autocapitalize", "off");
  root.replaceChildren(gutter, area);
  const state = { gutter, area, document: null, first: 1, wrong: [] };
  const send = () => {
    clearTimeout(state.timer);
    if (state.sent !== area.value) {
      state.sent = area.value;
      state.setState("text", { document: state.document, text: area.value });
    }
  };
  area.oninput = () => {
    number(state);
    clearTimeout(state.timer);
    state.timer = setTimeout(send, REST_MS);
  };
  area.onblur = send;
  area.onscroll = () => {
    gutter.scrollTop = area.scrollTop;
  };
  area.onkeydown = (event) => {
    // Streamlit's own keys (c, r) must not see what is typed here. Tab leaves; Ctrl-] indents.
    event.stopPropagation();
    if (event.key === "]" && event.ctrlKey) {
      event.preventDefault();
      document.execCommand("insertText", false, "  ");
    }
  };
  area.onkeyup = area.onkeypress = (event) => event.stopPropagation();
  return state;
}

export default function (component) {
  const root = component.parentElement.querySelector(".editor");
  const data = component.data;
  if (!root || !data) return undefined;
  let state = editors.get(root);
  if (!state) {
    state = build(root);
    editors.set(root, state);
  }
  state.setState = component.setStateValue;
  state.first = data.first;
  state.wrong = data.wrong;
  state.area.setAttribute("aria-label", data.label);
  state.area.style.height = `${data.height}px`;
  state.gutter.style.height = `${data.height}px`;
  if (state.document !== data.document) {
    state.document = data.document;
    state.area.value = data.text;
    state.sent = data.text;
    state.area.scrollTop = 0;
  }
  number(state);
  return () => clearTimeout(state.timer);
}
