"""A video and what was made of it, on one page of HTML.

clips -> measure -> page, with the words of facts and the drawings of plots
"""
