// What was run: settings, what the features were made with, and the machine.

function setupSection() {
  const specs = Object.entries(DATA.spec).map(([modality, spec]) =>
    el(
      'details',
      { class: 'tree' },
      el(
        'summary',
        {},
        `Features, ${modality}`,
        el('code', { class: 'print', title: 'fingerprint', text: spec.fingerprint }),
      ),
      tree(typeof spec.weights === 'string' ? { weights: spec.weights, ...spec.fields } : spec.fields),
    ),
  );
  return section(
    'setup',
    'What was run',
    tidy('Settings', DATA.settings),
    ...specs,
    tidy('Environment', DATA.environment),
    el('p', { class: 'muted foot', text: `Written by avpipe ${DATA.avpipe} from ${DATA.run.folder}.` }),
  );
}

function tidy(title, fields) {
  return el('details', { class: 'tree' }, el('summary', { text: title }), tree(fields ?? {}));
}

/** Nested keys and values as a definition list. */
function tree(fields) {
  const entries = Object.entries(fields);
  if (!entries.length) return el('p', { class: 'muted', text: 'nothing recorded' });
  return el(
    'dl',
    { class: 'keys' },
    ...entries.map(([key, value]) => el('div', {}, el('dt', {}, named(key)), el('dd', {}, leaf(value)))),
  );
}

function leaf(value) {
  if (value === null) return el('span', { class: 'muted', text: 'none' });
  if (Array.isArray(value) && value.every((item) => item === null || typeof item !== 'object'))
    return named(value.join(', ') || 'none');
  return typeof value === 'object' ? tree(value) : named(String(value));
}
