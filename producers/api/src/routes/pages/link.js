// What a mailed link leads to. The secret stands behind the #, which no server sees; it is sent when the person says so,
// and not because a mail program looked at the link.
const token = location.hash.slice(1);
history.replaceState(null, '', location.pathname);
const texts = {
  '/verify-email': ['Confirm that this email address is yours.', 'Thank you. The address is confirmed.'],
  '/reset-password': ['Set a new password.', 'The password is set. You can log in now.'],
  '/change-email': ['Make this email address the one of your account.', 'Your account has this address now.'],
};
const [question, thanks] = texts[location.pathname];
const resets = location.pathname === '/reset-password';
const form = document.querySelector('form');
const password = document.getElementById('new-password');
const answer = document.getElementById('answer');
document.getElementById('question').textContent = question;
document.getElementById('password').hidden = !resets;
password.required = resets;

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  answer.textContent = '';
  const body = resets ? { token, password: password.value } : { token };
  try {
    const response = await fetch('/api/auth' + location.pathname, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
    if (response.ok) {
      form.hidden = true;
      answer.textContent = thanks;
    } else {
      const problem = await response.json();
      const errors = (problem.errors || []).map((error) => error.detail);
      answer.textContent = [problem.detail, ...errors].join(' ');
    }
  } catch {
    answer.textContent = 'Carillon cannot be reached. Please try again.';
  }
});
