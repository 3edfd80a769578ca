"""Code: instructions, what is checked of them before they run, and the translators that make them runnable."""
