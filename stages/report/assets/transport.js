// The controls of an open clip's player: play, time, sound, and which picture is shown.

function makeTransport(detail, player, toggle, length, picture, setPicture) {
  const button = el('button', { type: 'button', class: 'play', on: { click: toggle } });
  const time = el('span', { class: 'time' });
  const quiet = el('input', { type: 'checkbox', on: { change: () => player.mute(quiet.checked) } });
  const choice = [
    ['video', 'Video'],
    ['frame', 'Stored frame'],
  ].map(([value, text]) =>
    el(
      'label',
      {},
      el('input', {
        type: 'radio',
        name: 'picture',
        value,
        checked: value === picture,
        on: { change: () => setPicture(value) },
      }),
      el('span', { text }),
    ),
  );
  const both = detail.video && detail.frames;
  const missing = [
    detail.video || detail.audio ? '' : 'no sound is stored for this clip',
    detail.frames || detail.video ? '' : 'no frames are stored',
  ];
  const node = el(
    'div',
    { class: 'transport' },
    button,
    time,
    detail.video || detail.audio ? el('label', { class: 'mute' }, quiet, el('span', { text: 'Mute' })) : null,
    both ? el('fieldset', { class: 'segmented' }, el('legend', { class: 'unseen', text: 'Picture' }), ...choice) : null,
    el('span', { class: 'muted', text: capital(missing.filter(Boolean).join('; ')) }),
  );
  const show = (at) => {
    const text = player.playing() ? 'Pause' : 'Play';
    if (button.textContent !== text) button.textContent = text;
    time.textContent = `${clock(at)} / ${clock(length)}`;
  };
  const mark = (value) => choice.forEach((label) => (label.firstChild.checked = label.firstChild.value === value));
  return { node, show, picture: mark };
}
