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

/** The best run beside this one: of another method or modality if there is one, else the same with another seed. */
function bestControl(rows) {
  const own = rows.find((row) => row.kind === 'this')?.label;
  const runs = rows.filter((row) => row.kind === 'run');
  const others = runs.filter((row) => row.label !== own);
  return best(others.length ? others : runs);
}

function comparison(title, row, value, missing) {
  if (row === null)
    return el('div', { class: 'against' }, el('dt', { text: title }), el('dd', { class: 'muted', text: missing }));
  const other = row.values[DATA.scores.main];
  const lead = value === null ? null : value - other;
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
  if (points(lead) === '0.0') return 'this run is level with it';
  return `this run is ${points(Math.abs(lead)).slice(1)} points ${lead > 0 ? 'above' : 'below'}`;
}

function headline() {
  const { run, scores } = DATA;
  const rows = officialRows();
  const own = rows.find((row) => row.kind === 'this') ?? null;
  const value = own === null ? null : own.values[scores.main];
  const protocol = scores.protocols[0]?.name;
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
        el('dd', { class: 'muted', text: protocol ? `protocol ${protocol}` : 'no score was taken' }),
      ),
      comparison('Best run beside it', bestControl(rows), value, 'No other run is beside this one.'),
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
  return el(
    'dl',
    { class: 'facts' },
    ...pairs.map(([name, value]) => el('div', {}, el('dt', { text: name }), el('dd', {}, named(value)))),
  );
}

function notes() {
  if (!DATA.notes.length) return null;
  const items = DATA.notes.map((text) => el('li', { text }));
  return el(
    'aside',
    { class: 'note', 'aria-label': 'Notes' },
    el('h2', { text: 'Before you read on' }),
    el('ul', {}, ...items),
  );
}
