// Numbers and names as people read them.

const NAMES = {
  accuracy: 'accuracy',
  miou: 'mean IoU',
  f_score: 'F-score',
  fscore: 'F-score',
  f: 'F-score',
  both: 'audio and visual',
};
const MINUS = '\u2212';
const NONE = '\u2013';

function nice(name) {
  return NAMES[name] ?? String(name).replaceAll('_', ' ');
}

/** "val_accuracy" is the validation score called accuracy. */
function niceScore(name) {
  return nice(String(name).replace(/^val_/, ''));
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A number with fixed digits and a true minus sign. */
function fixed(value, digits) {
  return value.toFixed(digits).replace('-', MINUS);
}

function count(value) {
  return value.toLocaleString('en-US').replace('-', MINUS);
}

/** A share in percent; an en dash where there is none. */
function percent(value, digits = 1) {
  return value === null || value === undefined ? NONE : `${fixed(100 * value, digits)} %`;
}

/** A difference of shares in percentage points, always with its sign. */
function points(value) {
  const text = fixed(100 * value, 1);
  return value > 0 && text !== '0.0' ? `+${text}` : text.replace(`${MINUS}0.0`, '0.0');
}

function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** Up to `digits` significant digits, without an exponent in the usual range. */
function significant(value, digits = 3) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
  return text.replaceAll('-', MINUS);
}

function seconds(value) {
  if (value < 0.001) return `${significant(value * 1e6)} \u00b5s`;
  if (value < 1) return `${significant(value * 1e3)} ms`;
  if (value < 120) return `${significant(value)} s`;
  if (value < 7200) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** Bytes with decimal prefixes, as disks are sold. */
function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const step = value > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(value) / 3)) : 0;
  return `${significant(value / 1000 ** step)} ${units[step]}`;
}

/** A quantity in its unit, for people; `exact` gives it as it was measured. */
function quantity(value, unit) {
  if (value === null) return NONE;
  if (unit === 's') return seconds(value);
  if (unit === 'bytes') return bytes(value);
  if (unit === 'MiB') return value < 1024 ? `${significant(value)} MiB` : `${significant(value / 1024)} GiB`;
  return (Number.isInteger(value) ? count(value) : significant(value)) + (unit ? ` ${unit}` : '');
}

function exact(value, unit) {
  return value === null ? 'not measured' : `${value} ${unit}`.trim();
}

/** 75.5 as 1:15.5 */
function clock(value) {
  const tenths = Math.floor(value * 10 + 1e-6);
  const rest = tenths % 600;
  return `${Math.floor(tenths / 600)}:${String(Math.floor(rest / 10)).padStart(2, '0')}.${rest % 10}`;
}

/** The name of a class; a number where the report does not know it. */
function className(id) {
  return DATA.classes[id] ?? `class ${id}`;
}
