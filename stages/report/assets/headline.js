// The first thing to read: what was run, the main score, and what it must be compared with.

/** Rows of the official protocol that have the main metric. */
function officialRows() {
  const main = DATA.scores.main;
  return (DATA.scores.protocols[0]?.rows ?? []).filter((row) => typeof row.values[main] === 'number');
}

function best(rows) {
  const main = DATA.scores.main;
  return rows.reduce((found, row) => (found === null || row.values[main] > found.values[main] ? row : found), null);
}

function rowName(row) {
  return row.seed === null || row.seed === undefined ? row.label : `${row.label}, seed ${row.seed}`;
}

/** The runs to compare with: those with other settings if there are any, else those with the same: {rows, how}. */
function controls(rows) {
  const own = rows.find((row) => row.kind === 'this');
  const runs = rows.filter((row) => row.kind === 'run');
  const others = runs.filter((row) => !own || groupOf(row) !== groupOf(own));
  return others.length ? { rows: others, how: 'with other settings' } : { rows: runs, how: 'with the same settings' };
}

/** Says that the best was chosen by the very scores shown, and among how many. */
function controlsTitle({ rows, how }) {
  if (!rows.length) return 'Best run beside it';
  const which = rows.length === 1 ? 'The one run' : `Best of ${count(rows.length)} runs`;
  return `${which} beside it ${how}, on this split`;
}

function comparison(title, row, value, missing) {
  if (row === null)
    return el('div', { class: 'against' }, el('dt', { text: title }), el('dd', { class: 'muted', text: missing }));
  const other = row.values[DATA.scores.main];
  const lead = value === null ? null : difference(value, other);
  return el(
    'div',
    { class: 'against' },
    el('dt', { text: title }),
    el('dd', { class: 'figure', title: String(other), text: percent(other) }),
    el('dd', {}, named(rowName(row))),
    lead === null ? null : el('dd', { class: lead < 0 ? 'lead behind' : 'lead', text: leadText(lead) }),
  );
}

function leadText(lead) {
  if (lead === 0) return 'this run is level with it';
  return `this run is ${fixed(Math.abs(lead), 1)} points ${lead > 0 ? 'above' : 'below'}`;
}

/** How much the main score rests on. */
function basis(value) {
  const { clips, run } = DATA;
  const all = plural(clips.length || (run.samples ?? 0), `${run.split} clip`);
  if (!clips.length) return all;
  if (isParsing()) return all;
  if (hasMasks()) {
    const frames = clips.reduce((sum, clip) => sum + clip.iou.filter((one) => one !== null).length, 0);
    return `${plural(frames, 'annotated frame')} of ${all}`;
  }
  const right = clips.reduce((sum, clip) => sum + clip.truth.filter((id, t) => id === clip.predicted[t]).length, 0);
  const segments = clips.reduce((sum, clip) => sum + clip.truth.length, 0);
  // Only where the score is this very share.
  const counted = value !== null && Math.abs(right / segments - value) < 1e-6;
  return counted ? `${count(right)} of ${plural(segments, 'segment')}, ${all}` : all;
}

function headline() {
  const { run, scores } = DATA;
  const rows = officialRows();
  const own = rows.find((row) => row.kind === 'this') ?? null;
  const value = own === null ? null : own.values[scores.main];
  const protocol = scores.protocols[0]?.name;
  const beside = controls(rows);
  const node = el(
    'header',
    { id: 'top', class: 'headline' },
    el('p', { class: 'eyebrow' }, [run.dataset, `${run.split} split`, capital(run.task)].join(' \u00b7 ')),
    el('h1', {}, named(DATA.title)),
    el(
      'dl',
      { class: 'scoreline' },
      el(
        'div',
        { class: 'main-score' },
        el('dt', { text: capital(nice(scores.main)) }),
        el('dd', { class: 'figure', title: value === null ? '' : String(value), text: percent(value) }),
        value === null ? null : el('dd', { class: 'basis', text: basis(value) }),
        el('dd', { class: 'muted', text: protocol ? `protocol ${protocol}` : 'no score was taken' }),
      ),
      comparison(controlsTitle(beside), best(beside.rows), value, 'No other run is beside this one.'),
      comparison(
        'Best answer without input',
        best(rows.filter((row) => row.kind === 'constant')),
        value,
        'Not computed.',
      ),
    ),
    facts(run),
    notes(),
  );
  document.getElementById('main').append(node);
  contents('top', 'Summary');
}

function facts(run) {
  const left = [
    run.missing ? `${count(run.missing)} not in the cache` : '',
    run.unlabelled ? `${count(run.unlabelled)} unlabelled` : '',
  ];
  const pairs = [
    ['Method', run.method],
    ['Modality', nice(run.modality)],
    ['Stage', run.stage],
    ['Seed', run.seed],
    ['Epoch', run.epoch === null ? null : `${run.epoch}${run.selected_by ? ` (${nice(run.selected_by)})` : ''}`],
    ['Samples', [typeof run.samples === 'number' ? count(run.samples) : null, ...left].filter(Boolean).join(', ')],
    ['Trained parameters', typeof run.trainable_parameters === 'number' ? count(run.trainable_parameters) : null],
    [
      'Made',
      String(DATA.made)
        .replace('T', ' ')
        .replace(/(\.\d+)?(Z|\+00:00)$/, ' UTC'),
    ],
  ].filter(([, value]) => value !== null && value !== undefined && value !== '');
  const backbones = Object.entries(run.backbones ?? {});
  return el(
    'dl',
    { class: 'facts' },
    ...pairs.map(([name, value]) => el('div', {}, el('dt', { text: name }), el('dd', {}, named(value)))),
    ...backbones.map(([modality, words]) =>
      el('div', { class: 'wide' }, el('dt', { text: `Backbone, ${modality}` }), el('dd', {}, named(words))),
    ),
    run.gates
      ? el('div', { class: 'wide' }, el('dt', { text: 'Mean absolute gate of each injection' }), el('dd', {}, named(run.gates)))
      : null,
  );
}

const NOT_SHOWN = 'Not shown beside';

/** What to know before reading on; below it, folded, which runs are not in the table of scores. */
function notes() {
  const list = (texts) => el('ul', {}, ...texts.map((text) => el('li', {}, ...withCode(text))));
  const left = DATA.notes.filter((text) => text.startsWith(NOT_SHOWN));
  const rest = DATA.notes.filter((text) => !text.startsWith(NOT_SHOWN));
  if (!DATA.notes.length) return null;
  const runs = left.reduce((sum, text) => sum + text.slice(0, text.lastIndexOf(' (')).split(', ').length, 0);
  const title = `${plural(runs, 'run')} ${runs === 1 ? 'is' : 'are'} not shown`;
  return el(
    'aside',
    { class: 'note', 'aria-label': 'Notes' },
    rest.length ? el('h2', { text: 'Before you read on' }) : null,
    rest.length ? list(rest) : null,
    left.length ? el('details', {}, el('summary', { text: title }), list(left)) : null,
  );
}

/** Text with what stands between backticks as code. */
function withCode(text) {
  return text.split(/`([^`]+)`/).map((part, place) => (place % 2 ? el('code', { text: part }) : part));
}
