// Elements, sections and bytes. All text goes in as text: nothing in this script writes markup.

const DATA = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';
const SHORT = { layers: 'Layers', clips: 'Clips', setup: 'Set-up' };
const WIDE = window.matchMedia('(min-width: 1100px)');

/** Sets attributes, and `text`, `on` ({event: handler}), `style` ({property: value}); false and null are left out. */
function dress(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === 'text') node.textContent = value;
    else if (name === 'on') for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    else if (name === 'style') for (const [key, set] of Object.entries(value)) node.style.setProperty(key, set);
    else node.setAttribute(name, value === true ? '' : value);
  }
  return node;
}

/** An HTML element; children are nodes or text, and empty ones are left out. */
function el(name, attributes = {}, ...children) {
  const node = dress(document.createElement(name), attributes);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ''));
  return node;
}

/** An SVG element. */
function svg(name, attributes = {}, ...children) {
  const node = dress(document.createElementNS(SVG, name), attributes);
  node.append(...children);
  return node;
}

/** A name that may hold anything, kept from turning the direction of the text around it. */
function named(text, attributes = {}) {
  return el('bdi', { ...attributes, text });
}

/** A section of the report, with its line in the table of contents. */
function section(id, title, ...children) {
  const node = el(
    'section',
    { id, 'aria-labelledby': `${id}-title` },
    el('h2', { id: `${id}-title`, text: title }),
    ...children,
  );
  document.getElementById('main').append(node);
  contents(id, SHORT[id] ?? title);
  return node;
}

function contents(id, title) {
  document.getElementById('contents').append(el('li', {}, el('a', { href: `#${id}`, text: title })));
}

/** A box that scrolls sideways, which the keyboard can reach too; it says so where it is wider than its place. */
function scroller(label, ...children) {
  const node = el('div', { class: 'scroller', role: 'region', 'aria-label': label, tabindex: '0' }, ...children);
  new ResizeObserver(() => node.classList.toggle('cut', node.scrollWidth > node.clientWidth + 1)).observe(node);
  return node;
}

/** A table from rows of cells; the first cell of a row heads it. Cells are text or nodes. */
function table(head, rows, attributes = {}) {
  const wrap = (name, cell, more) => el(name, more, cell);
  const body = rows.map((row) => {
    const [first, ...rest] = row.cells ?? row;
    return el(
      'tr',
      row.attributes ?? {},
      wrap('th', first, { scope: 'row' }),
      ...rest.map((cell) => wrap('td', cell, {})),
    );
  });
  const heads = head.map((cell) => wrap('th', cell, { scope: 'col' }));
  return el('table', attributes, el('thead', {}, el('tr', {}, ...heads)), el('tbody', {}, ...body));
}

/** The bytes of a base64 text. */
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** Decodes pictures of one type, null where there is none: [ImageBitmap or null]. */
function bitmaps(list, type) {
  const one = (text) =>
    text === null ? null : createImageBitmap(new Blob([bytesOf(text)], { type })).catch(() => null);
  return Promise.all((list ?? []).map(one));
}
