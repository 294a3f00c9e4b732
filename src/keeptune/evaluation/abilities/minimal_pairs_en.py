"""English templates of the grammar ability. minimal_pairs.py describes their notation.

The variants of a phenomenon mirror each other: the form that is right in one is wrong in the next. A preference for one
form, number or gender therefore scores 50 %. If only the word order differs, both sentences have the same words.
"""

from __future__ import annotations

AGREEMENT = {
    "agreement-simple": (
        "The {person.singular} {routine.third|base} {routine.rest}.",
        "The {person.plural} {routine.base|third} {routine.rest}.",
    ),
    # The noun in the phrase has the other number in two variants, the same number in the other two.
    "agreement-prepositional-phrase": (
        "The {head_person.singular} {head_person.link} {head_person.plurals} {routine.third|base} {routine.rest}.",
        "The {head_person.plural} {head_person.link} {head_person.singulars} {routine.base|third} {routine.rest}.",
        "The {head_thing.singular} {head_thing.link} {head_thing.plurals} [is|are] {head_thing.state}.",
        "The {head_thing.plural} {head_thing.link} {head_thing.singulars} [are|is] {head_thing.state}.",
        "The {head_person.singular} {head_person.link} {head_person.singulars} {routine.third|base} {routine.rest}.",
        "The {head_person.plural} {head_person.link} {head_person.plurals} {routine.base|third} {routine.rest}.",
        "The {head_thing.singular} {head_thing.link} {head_thing.singulars} [is|are] {head_thing.state}.",
        "The {head_thing.plural} {head_thing.link} {head_thing.plurals} [are|is] {head_thing.state}.",
    ),
    "agreement-relative-clause": (
        "The {person.singular} that the {visitor.plural} {met} {routine.third|base} {routine.rest}.",
        "The {person.plural} that the {visitor.singular} {met} {routine.base|third} {routine.rest}.",
        "The {person.singular} who {met} the {visitor.plural} {routine.third|base} {routine.rest}.",
        "The {person.plural} who {met} the {visitor.singular} {routine.base|third} {routine.rest}.",
    ),
    "agreement-irregular-noun": (
        "The {irregular_person.singular} {routine.third|base} {routine.rest}.",
        "The {irregular_person.plural} {routine.base|third} {routine.rest}.",
        "The {irregular_creature.singular} {outdoor_routine.third|base} {outdoor_routine.rest}.",
        "The {irregular_creature.plural} {outdoor_routine.base|third} {outdoor_routine.rest}.",
    ),
    "agreement-question": (
        "[Does|Do] the {person.singular} {routine.base} {routine.rest}?",
        "[Do|Does] the {person.plural} {routine.base} {routine.rest}?",
        "Why [is|are] the {person.singular} {state}?",
        "Why [are|is] the {person.plural} {state}?",
    ),
    "agreement-coordination": (
        "The {person.singular} and the {person2.singular} [are|is] {state}.",
        "The {person.singular} {beside} the {person2.singular} [is|are] {state}.",
        "The {person.singular} and the {person2.singular} {routine.base|third} {routine.rest}.",
        "The {person.singular} {beside} the {person2.singular} {routine.third|base} {routine.rest}.",
    ),
    "agreement-inversion": (
        "{indoors} [is|are] a(n) {thing_adjective} {thing.singular}.",
        "{indoors} [are|is] {small_number} {thing_adjective} {thing.plural}.",
        "Where [is|are] the {thing_adjective} {thing.singular}?",
        "Where [are|is] the {thing_adjective} {thing.plural}?",
    ),
}

NOUN_PHRASES = {
    "determiner-noun": (
        "{name} {acquired} {demonstrative.singular} {thing.singular|plural} {past_time}.",
        "{name} {acquired} {demonstrative.plural} {thing.plural|singular} {past_time}.",
        "{name} {acquired} {demonstrative.singular|plural} {thing.singular} {past_time}.",
        "{name} {acquired} {demonstrative.plural|singular} {thing.plural} {past_time}.",
    ),
    "determiner-irregular-noun": (
        "{name} photographed {demonstrative.singular} {irregular_being.singular|plural} {past_time}.",
        "{name} photographed {demonstrative.plural} {irregular_being.plural|singular} {past_time}.",
        "{name} {acquired} {demonstrative.singular} {irregular_item.singular|plural} {past_time}.",
        "{name} {acquired} {demonstrative.plural} {irregular_item.plural|singular} {past_time}.",
    ),
    "determiner-adjective-noun": (
        "{name} {acquired} {demonstrative.singular} {thing_adjective} {thing.singular|plural} {past_time}.",
        "{name} {acquired} {demonstrative.plural} {thing_adjective} {thing.plural|singular} {past_time}.",
    ),
    "quantifier-number": (
        "[Every|Many] {person.singular} {routine.third} {routine.rest}.",
        "[Many|Every] {person.plural} {routine.base} {routine.rest}.",
        "[Each|Several] {visitor.singular} {met} the {person.singular}.",
        "[Several|Each] {visitor.plural} {met} the {person.singular}.",
    ),
    "quantifier-mass-count": (
        "There is too [much|many] {mass.noun} {mass.place}.",
        "There are too [many|much] {count.noun} {count.place}.",
        "{name} noticed that there was a [little|few] {mass.noun} {mass.place}.",
        "{name} noticed that there were a [few|little] {count.noun} {count.place}.",
        "How [much|many] {mass.noun} is there {mass.place}?",
        "How [many|much] {count.noun} are there {count.place}?",
        "There is only a [little|few] {mass.noun} {mass.place}.",
        "There are only a [few|little] {count.noun} {count.place}.",
    ),
    "article-a-an": (
        "{name} {saw} [an|a] {vowel_noun} {past_time}.",
        "{name} {saw} [a|an] {consonant_noun} {past_time}.",
    ),
    "adjective-position": (
        "The [{thing_adjective} {thing.singular}|{thing.singular} {thing_adjective}] belongs to {name}.",
        "{name} found [{indefinite.pronoun} {indefinite.adjective}"
        "|{indefinite.adjective} {indefinite.pronoun}] {indoors}.",
    ),
    "possessive-form": (
        "{name} {acquired} {possessive.determiner|pronoun} {thing.singular} {past_time}.",
        "The {thing.singular} {indoors} is {possessive.pronoun|determiner}.",
        "This is {possessive.determiner|pronoun} {thing_adjective} {thing.singular}.",
        "This {thing_adjective} {thing.singular} is {possessive.pronoun|determiner}.",
    ),
    "comparative-form": (
        "{name} is {human_degree.comparative|positive} than {name2}.",
        "{name} is as {human_degree.positive|comparative} as {name2}.",
    ),
    "comparative-superlative": (
        "This {thing.singular} is {thing_degree.comparative|superlative} than that one.",
        "This is the {thing_degree.superlative|comparative} {thing.singular} of all.",
    ),
}

PRONOUNS = {
    "anaphor-gender": (
        "The {woman.singular} {reflexive_act.past} [herself|himself] {reflexive_act.rest}.",
        "The {man.singular} {reflexive_act.past} [himself|herself] {reflexive_act.rest}.",
        "{female_name} {reflexive_act.past} [herself|himself] {reflexive_act.rest}.",
        "{male_name} {reflexive_act.past} [himself|herself] {reflexive_act.rest}.",
    ),
    "anaphor-number": (
        "The {woman.singular} {reflexive_act.past} [herself|themselves] {reflexive_act.rest}.",
        "The {woman.plural} {reflexive_act.past} [themselves|herself] {reflexive_act.rest}.",
        "The {man.singular} {reflexive_act.past} [himself|themselves] {reflexive_act.rest}.",
        "The {man.plural} {reflexive_act.past} [themselves|himself] {reflexive_act.rest}.",
    ),
    # A reflexive belongs to the subject of its own clause, not to that of the main clause.
    "anaphor-locality": (
        "{female_name} {claimed} that {male_name} {reflexive_act.past} [himself|herself] {reflexive_act.rest}.",
        "{male_name} {claimed} that {female_name} {reflexive_act.past} [herself|himself] {reflexive_act.rest}.",
    ),
    "reflexive-position": (
        "{name} {claimed} that {name.subject|reflexive} {inner_state}.",
        "{name} {reflexive_act.past} {name.reflexive|subject} {reflexive_act.rest}.",
    ),
    "pronoun-case": (
        "{case_pronoun.subject|object} {event}.",
        "The {person.singular} {object_act.past} {case_pronoun.object|subject} {object_act.rest}.",
    ),
    "relative-pronoun-animacy": (
        "The {person.singular} [who|which] {person_clause} {routine.third} {routine.rest}.",
        "The {thing.singular} [which|who] {thing_clause} is {thing_state}.",
    ),
}

VERB_FORMS = {
    "past-participle": (
        "{name} has {irregular_past.participle|past} {irregular_past.rest}.",
        "{name} {irregular_past.past|participle} {irregular_past.rest} {past_time}.",
    ),
    # Over the variants, each form of the verb is right as often as it is wrong.
    "auxiliary-verb-form": (
        "{name} is {task.gerund|base} {task.object}.",
        "{name} did not {task.base|gerund} {task.object}.",
        "{name} has {task.participle|gerund} {task.object}.",
        "{name} is {task.gerund|participle} {task.object}.",
    ),
    "modal-verb-form": (
        "{name} {modal} {task.base|third} {task.object}.",
        "{name} {frequency} {task.third|base} {task.object}.",
    ),
    "infinitive-marker": (
        "{name} {modal} [|to] {task.base} {task.object}.",
        "{name} {wanted} [to|] {task.base} {task.object}.",
    ),
    "causative-infinitive": (
        "{name} {made} {name2} [|to] {task.base} {task.object}.",
        "{name} {asked} {name2} [to|] {task.base} {task.object}.",
    ),
    "infinitive-gerund": (
        "{name} {wanted} [to {task.base}|{task.gerund}] {task.object}.",
        "{name} {suggested} [{task.gerund}|to {task.base}] {task.object}.",
    ),
    # Only some verbs are suitable: "the door was closing by Rosa" can mean "next to Rosa".
    "passive-participle": (
        "{agent_task.object} was {agent_task.participle|gerund} by {name}.",
        "{name} was {agent_task.gerund|participle} {agent_task.object}.",
    ),
    "tense-time-adverb": (
        "{name} {task.past} {task.object} {time.past|future}.",
        "{name} will {task.base} {task.object} {time.future|past}.",
    ),
    "tag-question": ("{name} {tagged.clause}, [{tagged.tag}|{tagged2.tag}] {name.subject}?",),
    "adverb-adjective": (
        "The {person.singular} {manner.adverb|adjective} {task.past} {task.object}.",
        "The {manner.adjective|adverb} {person.singular} {task.past} {task.object}.",
    ),
}

ARGUMENTS = {
    "transitivity": (
        "The {person.singular} [{handled}|{solitary}] the {device} {circumstance}.",
        "The {person.singular} [{solitary}|{handled}] {circumstance}.",
    ),
    "passive-of-intransitive": (
        "The {object_history.noun} has {likely} been {object_history.transitive|intransitive}.",
        "The {object_history.noun} has {likely} {object_history.intransitive|transitive}.",
    ),
    "recipient-of-speech": (
        "{name} [{told}|{announced}] {name2} that {fact}.",
        "{name} [{announced}|{told}] that {fact}.",
    ),
    "dative": (
        "{name} {explained} [{explained_object} to {name2}|{name2} {explained_object}].",
        "{name} {gift.verb} [|to] {name2} {gift.object}.",
    ),
    "preposition-choice": ("{name} {preposition.phrase} {preposition.right|wrong} {preposition.object}.",),
    "preposition-presence": (
        "{name} {indirect_verb.phrase} [{indirect_verb.preposition}|] {indirect_verb.object} {past_time}.",
        "{name} {direct_verb.phrase} [|{direct_verb.preposition}] {direct_verb.object} {past_time}.",
    ),
    "since-for": (
        "{name} has {lasting} [for|since] {duration}.",
        "{name} has {lasting} [since|for] {moment}.",
    ),
}

POLARITY = {
    "negative-polarity-ever": (
        "{quantifier.negative|positive} ever {experience.first},"
        " but {quantifier.positive|negative} {experience.second}.",
    ),
    # "no" licenses "ever" only from the subject, not from inside the relative clause.
    "negative-polarity-scope": (
        "[No|The] {person.singular} who {met} [the|no] {visitor.plural} has ever {achievement}.",
    ),
    "negative-polarity-any": ("[No|Any] {visitor.singular} {any_act.past} [any|no] {any_act.object} {past_time}.",),
    "polarity-so-neither": (
        "{name} {polarity.positive}, and [so|neither] {polarity.auxiliary} {name2}.",
        "{name} {polarity.negative}, and [neither|so] {polarity.auxiliary} {name2}.",
    ),
    "negation-position": (
        "{name} [has not|not has] {task.participle} {task.object}.",
        "{name} [is not|not is] {task.gerund} {task.object}.",
        "{name} [did not|not did] {task.base} {task.object}.",
        "{name} [{firm_modal} not|not {firm_modal}] {task.base} {task.object}.",
    ),
    "correlative-conjunction": (
        "Both {name} [and|or] {name2} {event}.",
        "Either {name} [or|and] {name2} {event}.",
    ),
    "there-quantifier": (
        "There are [{weak}|all] {visitor.plural} {meeting_place}.",
        "{almost} [all|{weak}] {visitor.plural} are {meeting_place}.",
    ),
    "so-too": (
        "{name} was [so|too] {weary} that {name.subject} did not {task.base} {task.object}.",
        "{name} was [too|so] {weary} to {task.base} {task.object}.",
    ),
    "such-so": (
        "{name} said that it was [such|so] a(n) {extreme.adjective} {extreme.noun} that {extreme.result}.",
        "{name} said that the {extreme.noun} was [so|such] {extreme.adjective} that {extreme.result}.",
    ),
}

CLAUSES = {
    "filler-gap-object": (
        "{name} {knew} [what|that] {name2} {needed} {past_time}.",
        "{name} {knew} [that|what] {name2} {needed} the {device} {past_time}.",
    ),
    "relative-clause-gap": (
        "This is the {device} that {name} {needed} [|it] {past_time}.",
        "{name} {found_and} the {device} and {bought_it} [it|] {past_time}.",
    ),
    "adjunct-island": (
        "What did {name} {two_acts.base} [before {name.subject} {two_acts.past} the {device}"
        "|the {device} before {name.subject} {two_acts.past}]?",
    ),
    "question-inversion": (
        "{when} [{modal} {name}|{name} {modal}] {task.base} {task.object}?",
        "{name} {understood} {when} [{name2} {modal}|{modal} {name2}] {task.base} {task.object}.",
    ),
}

TEMPLATES = AGREEMENT | NOUN_PHRASES | PRONOUNS | VERB_FORMS | ARGUMENTS | POLARITY | CLAUSES
