// Whatever has data-event speaks for itself: 'submit' asks, 'pick', 'take', 'branch' and 'back'.
const unfold = () => element.querySelectorAll('details[data-wide]').forEach(
  part => { part.open = window.innerWidth > 640; });  // on narrow screens it stays folded
unfold();
watch('value', unfold);
element.addEventListener('click', event => {
  const pressed = event.target.closest('[data-event]');
  if (!pressed) return;
  if (pressed.dataset.event === 'pick')
    element.querySelectorAll('[data-event="pick"]').forEach(
      other => other.setAttribute('aria-pressed', other === pressed));
  trigger(pressed.dataset.event, {...pressed.dataset});
});
