// Seconds, bytes and memory, by stage.

function costsSection() {
  if (!DATA.costs.length) return null;
  const groups = [...new Set(DATA.costs.map((row) => row.group))];
  const part = (name) =>
    costTable(
      name,
      DATA.costs.filter((row) => row.group === name),
    );
  return section('costs', 'Costs', el('div', { class: 'cards' }, ...groups.map(part)));
}

function costTable(group, rows) {
  const lines = rows.map(({ name, value, unit, note }) => costLine(name, value, unit, note));
  return el('div', { class: 'card' }, el('h3', {}, named(capital(group))), el('dl', { class: 'costs' }, ...lines));
}

function costLine(name, value, unit, note) {
  const label = el('dt', {}, named(name), note ? el('span', { class: 'muted', text: note }) : null);
  return el('div', { title: exact(value, unit) }, label, el('dd', { text: quantity(value, unit) }));
}
