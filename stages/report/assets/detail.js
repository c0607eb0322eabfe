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
    (seconds) => (player.seek(seconds), settle()),
    () => toggle(),
  );
  const parts = { stage, caption: el('figcaption'), heard: el('figcaption') };
  const message = el('p', { class: 'why', role: 'status' });

  const redraw = () => {
    stage?.draw();
    captions(clip, view, stage, parts, detail);
  };
  // What is painted belongs to the frame that the backbone saw: a video that stands still must show that very moment.
  const settle = () => {
    if (view.picture === 'video' && overlaid(view, detail).length && !player.playing())
      player.seek(Math.min(frameTime(view.segment), (view.segment + 1) * DATA.segment_seconds - 0.001));
  };
  const toggle = () => (player.toggle(), settle());
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
    settle();
    redraw();
  };
  const transport = detail ? makeTransport(detail, player, toggle, length, view.picture, setPicture) : null;
  if (detail?.video) stage.screen.prepend(player.element());
  if (detail?.video) player.element().hidden = view.picture !== 'video';

  const overlays = stage ? makeOverlays(clip, detail, stage, view, () => (settle(), redraw()), setPicture) : {};
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
  captions(clip, view, stage, parts, detail);
  tracks.show(0, 0);
  transport?.show(0);
  settle();
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

/** The second whose picture the visual backbone saw. */
function frameTime(segment) {
  return (segment + (DATA.frame_position ?? 0.5)) * DATA.segment_seconds;
}

/** What is painted over the picture, in words. */
function overlaid(view, detail) {
  const masks = detail?.masks && view.masks !== 'frame';
  return [masks ? 'masks' : '', view.visual?.on ? 'attention' : ''].filter(Boolean);
}

/** The moment of the picture, and of what is painted over it; nothing where the report does not know it. */
function moment(view, detail) {
  if (!detail || typeof DATA.frame_position !== 'number') return '';
  const at = `${frameTime(view.segment).toFixed(2)} s`;
  if (view.picture === 'frame') return detail.frames ? ` The frame at ${at}.` : '';
  const what = overlaid(view, detail).join(' and ');
  return what ? ` ${capital(what)} ${what === 'attention' ? 'belongs' : 'belong'} to ${at}.` : '';
}

function captions(clip, view, stage, { caption, heard }, detail) {
  const second = DATA.segment_seconds;
  const span = `${significant(view.segment * second, 4)} to ${significant((view.segment + 1) * second, 4)} s`;
  const extra = (state, maps) => (state?.on ? ` ${prefixText(maps, view.segment, state)}` : '');
  const told = `${capital(describeSegment(clip, view.segment))}.${moment(view, detail)}`;
  caption.textContent = told + extra(view.visual, stage?.maps.visual);
  const given = `The sound by the front end of the audio backbone, ${span}; low frequencies below.`;
  heard.textContent = given + extra(view.audio, stage?.maps.audio);
}

function makeOverlays(clip, detail, stage, view, redraw, setPicture) {
  const all = () => (redraw(), stage.drawStrips());
  const toFrame = () => detail.frames && setPicture('frame');
  const paint = (value) => {
    view.masks = value;
    toFrame();
    all();
  };
  const kinds = isClassMaps() ? [CLASS_VIEWS, (shown) => classLegend(shown, classColours(clip))] : [];
  const masks = detail.masks ? maskSwitches(view.masks, paint, ...kinds) : null;
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
