// The page's words in the language that was chosen: one dictionary a language, fetched when it is needed.

const files = new Map();
let words = {};
let sentences = {};

/** The languages there are, by the names they give themselves. */
export const LANGUAGES = { en: "English", zh: "中文" };

async function fetched(name) {
  if (!files.has(name)) {
    const response = await fetch(new URL(name, import.meta.url));
    files.set(name, response.ok ? await response.json() : {});
  }
  return files.get(name);
}

/** Takes a language from now on. */
export async function speak(language) {
  words = await fetched(`words.${language}.json`);
  sentences = language === "en" ? {} : await fetched(`catalogue.${language}.json`);
  document.documentElement.lang = language === "zh" ? "zh-CN" : language;
}

/** A text by its name, its {places} filled. */
export function t(name, values = {}) {
  const text = words[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (_, place) => values[place] ?? "");
}

/** Whether there is a text of this name. */
export function known(name) {
  return name in words;
}

/** A sentence of the catalogue, which the service has in English. */
export function c(sentence) {
  return sentences[sentence] ?? sentence;
}

/** The language to begin with: the browser's. */
export function preferred() {
  return (
    (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? "en"
  );
}
