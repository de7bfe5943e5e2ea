// Sets the equations of a page. Where KaTeX could not be fetched, their TeX source is shown.
document$.subscribe(({ body }) => {
  for (const element of body.querySelectorAll(".arithmatex")) {
    if (typeof renderMathInElement === "undefined") {
      element.textContent = element.textContent.trim().slice(2, -2).trim() // without \( \)
      element.classList.add("source")
    } else {
      renderMathInElement(element, {
        delimiters: [
          { left: "\\(", right: "\\)", display: false },
          { left: "\\[", right: "\\]", display: true },
        ],
        throwOnError: false,
      })
    }
  }
})
