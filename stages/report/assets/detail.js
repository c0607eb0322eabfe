// One clip, opened: pictures, player, what is true and what was predicted over time, overlays.

/** Opens a clip; `detail` is null where the report keeps none. Returns {node, close, ready}. */
function openClip(clip, detail, why) {
  const length = clip.segments * DATA.segment_seconds;
  const view = { segment: 0, picture: startPicture(detail), masks: 'both', visual: null, audio: null, opacity: 0.6 };
  const stage = detail ? makeStage(clip, detail, view) : null;
  const tracks = makeTracks(
    clip,
    stage,
    detail,
    length,
    (seconds) => player.seek(seconds),
    () => player.toggle(),
  );
  const parts = { stage, caption: el('figcaption'), heard: el('figcaption') };
  const message = el('p', { class: 'why', role: 'status' });

  const redraw = () => {
    stage?.draw();
    captions(clip, view, stage, parts);
  };
  const changed = () => {
    const time = player.time();
    const segment = Math.max(0, Math.min(clip.segments - 1, Math.floor(time / DATA.segment_seconds + 1e-6)));
    const moved = segment !== view.segment;
    view.segment = segment;
    tracks.show(time, segment);
    transport?.show(time);
    const video = player.element();
    if (stage && video?.videoWidth) stage.shape(video.videoWidth, video.videoHeight);
    if (moved) redraw();
  };
  const failed = () => {
    const what = detail.video ? 'the video (H.264 and AAC in mp4)' : 'the sound';
    message.textContent = `This browser cannot play ${what}: time runs without it.`;
    stage.screen.querySelector('video')?.remove();
    setPicture('frame');
  };
  const player = makePlayer(
    detail,
    length,
    () => changed(),
    () => failed(),
  );
  const setPicture = (picture) => {
    view.picture = picture;
    const video = stage?.screen.querySelector('video');
    if (video) video.hidden = picture !== 'video';
    transport?.picture(picture);
    redraw();
  };
  const transport = detail ? makeTransport(detail, player, length, view.picture, setPicture) : null;
  if (detail?.video) stage.screen.prepend(player.element());
  if (detail?.video) player.element().hidden = view.picture !== 'video';

  const overlays = stage ? makeOverlays(detail, stage, view, redraw, setPicture) : {};
  const node = el(
    'div',
    { class: 'opened' },
    detail ? null : el('p', { class: 'why', text: why }),
    message,
    stage ? panes(detail, parts) : null,
    transport?.node,
    overlays.masks,
    tracks.node,
    overlays.attention,
    segmentTable(clip),
  );
  captions(clip, view, stage, parts);
  tracks.show(0, 0);
  transport?.show(0);
  const close = () => {
    player.close();
    stage?.close();
  };
  return { node, close, ready: stage?.loaded ?? Promise.resolve() };
}

/** Masks belong to a frame; otherwise a video is shown where there is one. */
function startPicture(detail) {
  return detail?.video && !(detail.masks && detail.frames) ? 'video' : 'frame';
}

function panes(detail, { stage, caption, heard }) {
  const seen = detail.frames || detail.video ? el('figure', { class: 'seen' }, stage.screen, caption) : null;
  const sound = detail.spectrogram ? el('figure', { class: 'heard' }, stage.sound, heard) : null;
  stage.panes.append(...[seen, sound].filter(Boolean));
  return stage.panes;
}

function captions(clip, view, stage, { caption, heard }) {
  const second = DATA.segment_seconds;
  const span = `${significant(view.segment * second, 4)} to ${significant((view.segment + 1) * second, 4)} s`;
  const extra = (state, maps) => (state?.on ? ` ${prefixText(maps, view.segment, state)}` : '');
  caption.textContent = `${capital(describeSegment(clip, view.segment))}.${extra(view.visual, stage?.maps.visual)}`;
  const given = `What the audio backbone is given, ${span}; low frequencies below.`;
  heard.textContent = given + extra(view.audio, stage?.maps.audio);
}

function makeTransport(detail, player, length, picture, setPicture) {
  const button = el('button', { type: 'button', class: 'play', on: { click: () => player.toggle() } });
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

function makeOverlays(detail, stage, view, redraw, setPicture) {
  const all = () => (redraw(), stage.drawStrips());
  const toFrame = () => detail.frames && setPicture('frame');
  const paint = (value) => {
    view.masks = value;
    toFrame();
    all();
  };
  const masks = detail.masks ? maskSwitches(view.masks, paint) : null;
  const switches = ['visual', 'audio']
    .filter((name) => stage.maps[name])
    .map((name) => {
      const made = attentionSwitches(name, stage.maps[name], (state) => {
        if (name === 'visual' && state.on) toFrame();
        all();
      });
      view[name] = made.state;
      return made.node;
    });
  const strength = el('input', {
    type: 'range',
    min: 10,
    max: 100,
    step: 5,
    value: 100 * view.opacity,
    on: { input: () => ((view.opacity = strength.value / 100), all()) },
  });
  const scale = el(
    'div',
    { class: 'scale' },
    el('label', {}, el('span', { text: 'Opacity' }), strength),
    heatScale('none', 'most in this map'),
  );
  return { masks, attention: switches.length ? el('div', { class: 'overlays' }, ...switches, scale) : null };
}

/** Every segment in words and numbers. */
function segmentTable(clip) {
  const second = DATA.segment_seconds;
  const start = (t) => `${significant(t * second, 4)} s`;
  const list = Array.from({ length: clip.segments }, (_, t) => t);
  const rows = isEvents()
    ? list.map((t) => [
        String(t + 1),
        start(t),
        named(className(clip.truth[t])),
        named(className(clip.predicted[t])),
        clip.truth[t] === clip.predicted[t] ? 'right' : 'wrong',
        percent(clip.certainty?.[t]),
      ])
    : list.map((t) => [String(t + 1), start(t), percent(clip.iou[t])]);
  const head = isEvents()
    ? ['Segment', 'From', 'Truth', 'Predicted', 'Verdict', 'Certainty']
    : ['Segment', 'From', 'IoU'];
  const label = 'Every segment, in numbers';
  return el('details', {}, el('summary', { text: label }), scroller(label, table(head, rows, { class: 'numbers' })));
}
