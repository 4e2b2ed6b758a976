"use strict";
// Elements, numbers and colours. Whatever came from a run is set as text, never as HTML.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, action] of Object.entries(value)) element.addEventListener(event, action);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function heldBy(block) {
  return JSON.parse(block.querySelector('script[type="application/json"]').textContent);
}

function shown(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
  const size = Math.abs(value);
  const near = Number(value.toPrecision(4));
  return size < 1e-3 || size >= 1e6 ? Number(value.toPrecision(3)).toExponential().replace("e+", "e") : String(near);
}

function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 5e-5) return "< .01 %";
  return `${(100 * share).toFixed(share > 0.9999 && share < 1 ? 4 : 2)} %`;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A choice among a few: [value, label] each.
function choice(label, options, action) {
  const select = make("select", { on: { change: () => action(select.value) } });
  for (const [value, text] of options) select.append(make("option", { value }, text));
  return make("label", { class: "choice" }, make("span", {}, label), select);
}

function tick(label, action) {
  const box = make("input", { type: "checkbox", on: { change: () => action(box.checked) } });
  return make("label", { class: "tick" }, box, label);
}

function searchField(label, action) {
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => action(field.value), 80);
  };
  const field = make("input", { type: "search", autocomplete: "off", spellcheck: "false", on: { input: later } });
  return make("label", { class: "choice search" }, make("span", {}, label), field);
}

// All words of a query must stand in a text.
function wordsOf(query) {
  return query.toLowerCase().split(/\s+/).filter(Boolean);
}

const onPrint = []; // functions that are told true before a page is printed, and false afterwards
const onTheme = []; // functions that are called when colours change
