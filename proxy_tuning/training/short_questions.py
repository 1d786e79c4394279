"""Short questions about anything but politics and the kinds of `data/questions`, for M to answer.

What M makes up by itself (own_text.py) are requests of a sentence or two. People also ask in five
words, as they ask about polls, and that is where M+ has to be kept quiet.
"""

from itertools import product

CONCEPTS = (
    "photosynthesis, gravity, friction, erosion, osmosis, inflation, evolution, entropy, magnetism, "
    "condensation, an algorithm, a metaphor, a sonnet, a haiku, jazz, opera, cubism, yoga, chess, "
    "origami, meditation, a black hole, a comet, a volcano, an earthquake, a glacier, a rainbow, "
    "a fossil, a vaccine, an enzyme, a battery, a transistor, a compiler, a database, a recipe, "
    "a vegan diet, a mortgage, a budget, a podcast, a hashtag, a marathon, a triathlon, karate, "
    "a saxophone, a violin, a telescope, a microscope, a compass, concrete, bronze, pasta, tofu"
).split(", ")
INVENTIONS = (
    "the telephone, the light bulb, the airplane, the printing press, the steam engine, the bicycle, "
    "penicillin, dynamite, the zipper, the microwave oven, the World Wide Web, the camera, the radio, "
    "the typewriter, the parachute, paper"
).split(", ")
WORKS = (
    "Hamlet, Moby-Dick, Pride and Prejudice, Don Quixote, the Odyssey, War and Peace, Dracula, "
    "Frankenstein, The Hobbit, Alice in Wonderland, The Great Gatsby, Les Misérables"
).split(", ")
PAINTINGS = (
    "the Mona Lisa, The Starry Night, Guernica, The Scream, The Last Supper, Sunflowers"
).split(", ")
PEOPLE = (
    "Albert Einstein, Marie Curie, Wolfgang Amadeus Mozart, Isaac Newton, Charles Darwin, Galileo, "
    "Leonardo da Vinci, Nikola Tesla, Ada Lovelace, Alan Turing, Pablo Picasso, Frida Kahlo, "
    "Ludwig van Beethoven, Florence Nightingale, Muhammad Ali, Pelé, Charlie Chaplin, Agatha Christie"
).split(", ")
SIGHTS = (
    "the Eiffel Tower, Mount Everest, the Great Wall, the Grand Canyon, Stonehenge, the Colosseum, "
    "Machu Picchu, the Nile, the Amazon rainforest, the Sahara, Niagara Falls, the Taj Mahal, "
    "Big Ben, the Golden Gate Bridge, Lake Baikal, the Great Barrier Reef"
).split(", ")
TASKS = (
    "boil an egg, tie a tie, change a tire, learn to swim, fall asleep faster, clean a window, "
    "bake bread, make coffee, write a letter, save money, remove a stain, grow tomatoes, sharpen a "
    "knife, start running, train a puppy, fix a leaking tap, draw a face, fold a shirt"
).split(", ")
EVENTS = (
    "the French Revolution, the Renaissance, the Cold War, the Industrial Revolution, the Black Death, "
    "the Boston Tea Party, the Gold Rush, the Great Depression, the fall of the Berlin Wall, "
    "the Battle of Waterloo, the Battle of Hastings, the Norman Conquest, the Space Race, "
    "the Great Fire of London, the Trojan War, the Reformation, the Crusades, the Russian Revolution, "
    "the Dust Bowl, Prohibition, the sinking of the Titanic, the first moon landing"
).split(", ")
RULERS = (
    "Julius Caesar, Cleopatra, Napoleon, Queen Victoria, Genghis Khan, Alexander the Great, "
    "Winston Churchill, Nelson Mandela, Mahatma Gandhi, Joan of Arc, Catherine the Great, Charlemagne, "
    "Otto von Bismarck, Henry VIII, Augustus, Hannibal, Martin Luther King, Rosa Parks, "
    "Harriet Tubman, Sitting Bull, Benjamin Franklin, Simón Bolívar, Margaret Thatcher, Marco Polo"
).split(", ")
FIRSTS = (
    "person on the Moon, woman in space, person to climb Mount Everest, person to reach the South Pole, "
    "woman to win a Nobel Prize, emperor of Rome, emperor of China, woman to fly across the Atlantic, "
    "person to sail around the world, computer programmer, prime minister of Britain, dog in space, "
    "king of England, person to run a mile in four minutes"
).split(", ")
INSTITUTIONS = (
    "the United Nations, NATO, the European Union, the Red Cross, NASA, the World Bank, UNESCO, the FBI, "
    "the Olympic Games, the Federal Reserve, the Royal Society, the BBC, Interpol, the Vatican, "
    "the International Space Station, the Smithsonian, the stock market, a constitution, a democracy, "
    "a monarchy, a republic, a treaty, a tax, a census, a passport, a law, a judge, an embassy"
).split(", ")
CITIES = (
    "Chicago, Boston, New Orleans, San Francisco, Las Vegas, Seattle, Detroit, Miami, Houston, "
    "Philadelphia, Milwaukee, Pittsburgh, Atlanta, Charlotte, London, Rome, Tokyo, Berlin, Cairo, "
    "Sydney, Istanbul, Mumbai, Barcelona, Venice, Moscow, Toronto, Mexico City"
).split(", ")
LANDS = (
    "Texas, Florida, Alaska, Hawaii, Vermont, Ohio, Nevada, Michigan, Georgia, Pennsylvania, Arizona, "
    "Wisconsin, Iowa, Maine, Utah, North Carolina, California, New York, Montana, Virginia, Oregon, "
    "Tennessee, Colorado, Kansas, Minnesota"
).split(", ")
COUNTRIES = (
    "France, Italy, Spain, Germany, Japan, China, India, Brazil, Canada, Mexico, Egypt, Kenya, Peru, "
    "Greece, Turkey, Sweden, Norway, Ireland, Portugal, Australia, Argentina, Thailand, Vietnam, Iran"
).split(", ")
ANIMALS = (
    "dog, cat, horse, cow, lion, tiger, bear, wolf, fox, rabbit, dolphin, shark, octopus, penguin, "
    "owl, eagle, frog, snake, turtle, bee, ant, spider, giraffe, kangaroo, koala, camel, bat, squirrel"
).split(", ")
TRADES = (
    "plumber, nurse, lawyer, baker, chef, carpenter, pilot, librarian, astronaut, farmer, dentist, "
    "architect, journalist, translator, electrician, firefighter, geologist, surgeon, tailor, actor"
).split(", ")
NOUNS = (
    "bridge, river, garden, shadow, mirror, candle, thunder, island, pencil, winter, orange, silver, "
    "forest, whisper, journey, courage, honest, gentle, quickly, curious, silent, brave, ancient"
).split(", ")
SPORTS = (
    "basketball, tennis, soccer, baseball, golf, cricket, rugby, volleyball, boxing, fencing, rowing, "
    "ice hockey, table tennis, badminton, surfing, judo"
).split(", ")
FOODS = (
    "bread, cheese, rice, chocolate, honey, butter, pizza, sushi, ice cream, yogurt, soup, salad, "
    "a banana, an apple, a potato, an avocado, a mango, garlic, cinnamon, vinegar, milk"
).split(", ")
PAIRS = (
    ("a whale", "an elephant"),
    ("a cat", "a tiger"),
    ("the Moon", "the Sun"),
    ("a lake", "an ocean"),
    ("gold", "iron"),
    ("a violin", "a cello"),
    ("a car", "a train"),
    ("coffee", "tea"),
)
CHAT = (
    "Hi|Hey there|Good morning|Good evening!|Thanks!|thank you so much|How are you?|how's it going|"
    "Tell me a joke|Tell me something funny.|Who are you?|What can you do?|Are you a robot?|"
    "Can you help me?|What's your name?|Bye|See you later|Sing me a song|I'm bored|I feel sad today|"
    "What should I eat tonight?|Is it raining?|What time is it?|Do you like music?|Write a poem|"
    "Why is the sky blue?|Why is the sea salty?|Why do cats purr?|Why do leaves fall?|"
    "How do planes fly?|How do magnets work?|How does a fridge work?|What do bees make?|"
    "What do pandas eat?|Where do penguins live?|Can birds swim?|Is a tomato a fruit?|"
    "How many legs does a spider have?|How many players are in a soccer team?|"
    "How many strings does a guitar have?|How long does a flight to Mars take?|"
    "How old is the universe?|How hot is the Sun?|How fast is light?|How deep is the ocean?|"
    "Which planet is the largest?|which planet is closest to the sun|What is the tallest animal?|"
    "What is the fastest animal?|what's the longest river|What is the hardest material?|"
    "What is a good book?|Recommend a movie|what is the best way to learn piano"
).split("|")
FORMS = (
    (("What is {0}?", "what is {0}", "Explain {0} in one sentence.", "Define {0}."), CONCEPTS),
    (("Who invented {0}?", "when was {0} invented"), INVENTIONS),
    (("Who wrote {0}?", "who is the author of {0}"), WORKS),
    (("Who painted {0}?", "Where can I see {0}?"), PAINTINGS),
    (("Who was {0}?", "what is {0} famous for"), PEOPLE),
    (("Where is {0}?", "How old is {0}?", "tell me about {0}"), SIGHTS),
    (("How do I {0}?", "how to {0}"), TASKS),
    (("What was {0}?", "When was {0}?", "Why is {0} important?", "what happened in {0}"), EVENTS),
    (
        ("Who was {0}?", "where was {0} born", "Was {0} a good leader?", "When did {0} live?"),
        RULERS,
    ),
    (("Who was the first {0}?", "the first {0}, who was it"), FIRSTS),
    (("What is {0}?", "What does {0} do?", "what is {0} for", "How does {0} work?"), INSTITUTIONS),
    (("Where is {0}?", "What is {0} known for?", "Is {0} a big city?", "is it hot in {0}"), CITIES),
    (
        (
            "What is {0} known for?",
            "what is the weather like in {0}",
            "What animals live in {0}?",
            "How big is {0}?",
            "What can I do in {0} in October?",
        ),
        LANDS,
    ),
    (
        (
            "How many people live in {0}?",
            "What is the largest lake in {0}?",
            "What is a typical dish of {0}?",
            "what language do people speak in {0}",
            "What is the flag of {0} like?",
            "When is the best time to visit {0}?",
            "Which countries border {0}?",
            "What is the history of {0}?",
        ),
        COUNTRIES,
    ),
    (
        (
            "What does a {0} eat?",
            "How long does a {0} live?",
            "how fast can a {0} run",
            "Where does a {0} sleep?",
            "Is a {0} a good pet?",
        ),
        ANIMALS,
    ),
    (("What does a {0} do?", "how do I become a {0}", "What tools does a {0} use?"), TRADES),
    (
        (
            "Use the word {0} in a sentence.",
            "What rhymes with {0}?",
            "How do you spell {0}?",
            "what does {0} mean",
            "Is '{0}' a noun or a verb?",
        ),
        NOUNS,
    ),
    (("What are the rules of {0}?", "who is good at {0}", "Is {0} hard to learn?"), SPORTS),
    (
        ("How is {0} made?", "Is {0} healthy?", "what goes well with {0}", "How do I store {0}?"),
        FOODS,
    ),
)


def short_questions():
    """All of them, a list of different texts."""
    asked = list(CHAT)
    for forms, words in FORMS:
        asked += [form.format(word) for word, form in product(words, forms)]
    asked += [f"Which is bigger, {a} or {b}?" for a, b in PAIRS]
    asked += [f"What is the difference between {a} and {b}?" for a, b in PAIRS]
    return asked
