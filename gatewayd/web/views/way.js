// Ways through the page that the back button finds again. The address stays `/`: what is shown is
// kept in the history's own state. Screens that a first visit does not need are loaded when opened.

/** @typedef {{screen: "people" | "person" | "proposal" | "invite", id: string | null}} Place */

/**
 * Opens a screen, as a new step of the history.
 * @param {Place["screen"]} screen
 * @param {string | null} [id]
 */
export function visit(screen, id = null) {
  history.pushState({ screen, id }, "", "/");
  return arrive({ screen, id });
}

/**
 * Shows a place; the inbox for none.
 * @param {Partial<Place> | null} place
 * @returns {Promise<unknown>}
 */
export async function arrive(place) {
  const id = typeof place?.id === "string" ? place.id : null;
  switch (place?.screen) {
    case "people":
      return (await import("./people.js")).people();
    case "person":
      return (await import("./person.js")).person(id ?? "");
    case "proposal":
      return (await import("./proposal.js")).proposal(id ?? "");
    case "invite":
      return (await import("./invite.js")).invite(id);
    default:
      return (await import("./inbox.js")).inbox();
  }
}
