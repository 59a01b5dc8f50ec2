"""Recipes: everything that decides what comes out of a fine-tuning run."""

from jaxtask.finetune.recipe.files import read_recipe as read_recipe
from jaxtask.finetune.recipe.files import shipped_recipes as shipped_recipes
from jaxtask.finetune.recipe.settings import Lora as Lora
from jaxtask.finetune.recipe.settings import Recipe as Recipe
from jaxtask.finetune.recipe.settings import Training as Training
from jaxtask.finetune.recipe.settings import change as change
from jaxtask.finetune.recipe.settings import make_recipe as make_recipe
