element.addEventListener('click', event => {
  const token = event.target.closest('[data-token]');
  if (!token) return;
  element.querySelectorAll('[data-token]').forEach(
    other => other.setAttribute('aria-pressed', other === token));
  trigger('pick', {token: Number(token.dataset.token)});
});
