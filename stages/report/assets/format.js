// Numbers and names as people read them.

const NAMES = {
  miou: 'mean IoU',
  fscore: 'F-score',
  miou_over_seen: 'mean IoU, classes met',
  fscore_over_seen: 'F-score, classes met',
  both: 'audio and visual',
  segment_audio: 'audio, segments',
  segment_visual: 'visual, segments',
  segment_audio_visual: 'both at once, segments',
  segment_type_av: 'Type@AV, segments',
  segment_event_av: 'Event@AV, segments',
  event_audio: 'audio, events',
  event_visual: 'visual, events',
  event_audio_visual: 'both at once, events',
  event_type_av: 'Type@AV, events',
  event_event_av: 'Event@AV, events',
};
const MINUS = '\u2212';
const NONE = '\u2013';

function nice(name) {
  return NAMES[name] ?? String(name).replaceAll('_', ' ');
}

/** The score by which epochs are compared: "val_accuracy" is the validation accuracy, "test_miou" the test mean IoU. */
function niceScore(name) {
  const [split, ...metric] = String(name).split('_');
  return `${split === 'val' ? 'validation' : split} ${nice(metric.join('_'))}`;
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

/** A share in percent that is not shown as 0 unless it is. */
function share(value) {
  return value > 0 && value < 0.0005 ? 'less than 0.1 %' : percent(value);
}

/** The difference of two shares as they are shown, so that 49.0 % beside 48.3 % is 0.7; in percentage points. */
function difference(value, other) {
  const shown = (one) => Math.round(Number((100 * one).toFixed(1)) * 10);
  return (shown(value) - shown(other)) / 10;
}

/** Percentage points, always with their sign. */
function points(value) {
  return value > 0 ? `+${fixed(value, 1)}` : fixed(value, 1);
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

/** Rounded before it is split, so that no text has 60 seconds or 60 minutes. */
function seconds(value) {
  if (value === 0) return '0 s';
  if (value < 0.001) return `${significant(value * 1e6)} \u00b5s`;
  if (value < 1) return `${significant(value * 1e3)} ms`;
  if (value < 120) return `${significant(value)} s`;
  const whole = Math.round(value);
  if (whole < 7200) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(value / 60);
  return `${count(Math.floor(minutes / 60))} h ${minutes % 60} min`;
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

/** A name inside a text, kept from turning the direction of what stands around it. */
function isolated(text) {
  return `\u2068${text}\u2069`;
}

/** The name of a class; a number where the report does not know it. */
function className(id) {
  return DATA.classes[id] ?? `class ${id}`;
}
