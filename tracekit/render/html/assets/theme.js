document.documentElement.classList.add("js");
try {
  const theme = localStorage.getItem("tracekit-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* Storage is forbidden: the system's theme holds. */ }
